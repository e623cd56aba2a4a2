use super::*;

#[test]
fn every_obstacle_says_what_to_do() {
    let listener = "/usr/sbin/sshd (process 7, /etc/ssh/sshd_config)".to_owned();
    let files = vec!["/elsewhere/%u".to_owned()];
    for (obstacle, remedy) in [
        (Obstacle::NoSshd, "install openssh-server"),
        (Obstacle::Uncertain { listener: listener.clone() }, "start it with an absolute -f"),
        (Obstacle::NoPam { listener: listener.clone(), place: Some("/a:3".into()) }, "change /a:3 to `UsePAM yes`"),
        (Obstacle::NoPam { listener: listener.clone(), place: None }, "add `UsePAM yes`"),
        (
            Obstacle::OtherKeys { listener, login: "any account".into(), files },
            "take that AuthorizedKeysFile setting out",
        ),
        (Obstacle::NobodyExempt, "accounts.no_exempt = true"),
        (Obstacle::NoUsableExempt { why: vec!["breakglass: there is no such account".into()] }, "mend one"),
    ] {
        assert!(obstacle.to_string().contains(remedy), "{obstacle}");
    }
}

#[test]
fn an_sshd_that_is_started_again_is_the_same_obstacle() {
    let of = |sshd: &str| Obstacle::NoPam {
        listener: format!("/usr/sbin/sshd ({sshd}, /etc/ssh/sshd_config)"),
        place: None,
    };
    let [first, again, meanwhile] = ["process 7", "process 8", "started on demand"].map(|sshd| of(sshd).identity());
    assert!(first == again && first == meanwhile && first.contains("/etc/ssh/sshd_config"), "{first}");
    let other = Obstacle::NoPam { listener: "/usr/sbin/sshd (process 7, /etc/ssh/second)".to_owned(), place: None };
    assert_ne!(other.identity(), first);
}

#[test]
fn a_host_without_an_sshd_is_not_ready() {
    let input =
        ReadinessInput { exempt: &[], penalty_exempt: &[], no_exempt: true, listeners: &[], when: When::Before };
    assert!(check(&input).contains(&Obstacle::NoSshd));
}
