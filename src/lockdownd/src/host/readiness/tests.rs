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
fn a_host_without_an_sshd_is_not_ready() {
    let input = ReadinessInput { exempt: &[], no_exempt: true, listeners: &[], when: When::Before };
    assert!(check(&input).contains(&Obstacle::NoSshd));
}
