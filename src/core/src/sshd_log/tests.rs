//! Lines as sshd wrote them: Debian 12 (9.2) and 13 (10.0), and as 8.9 and 9.6 write them where they differ.

use proptest::prelude::*;

use super::*;

const KEY: &str = "SHA256:51ByEgwRruTOUDxDWw7QDy/IWMkED6uvhCsCnxkxGXg";

fn source(address: &str, port: u16) -> Option<Source> {
    Some(Source { address: address.parse().ok(), port: (port != 0).then_some(port) })
}

fn user(name: &str, valid: bool) -> Option<User> {
    Some(User { name: name.to_owned(), valid })
}

fn says(message: &str, what: What, who: Option<User>, from: Option<Source>) {
    assert_eq!(parse(message), Some(Line { what, user: who, source: from }), "{message}");
}

fn accepted(method: &str, key: Option<&str>) -> What {
    What::Accepted { method: method.to_owned(), fingerprint: key.map(|key| key.parse().expect("a fingerprint")) }
}

fn failed(method: &str) -> What {
    What::Tried { method: method.to_owned() }
}

#[test]
fn who_got_in_is_read_with_method_and_key() {
    let from = source("127.0.0.11", 52_901);
    let line = format!("Accepted publickey for frank from 127.0.0.11 port 52901 ssh2: ED25519 {KEY}");
    says(&line, accepted("publickey", Some(KEY)), user("frank", true), from.clone());
    let line = "Accepted password for frank from 127.0.0.11 port 52901 ssh2";
    says(line, accepted("password", None), user("frank", true), from.clone());
    let line = "Accepted keyboard-interactive/pam for root from 127.0.0.11 port 52901 ssh2";
    says(line, accepted("keyboard-interactive/pam", None), user("root", true), from.clone());
    let line = format!(
        "Accepted publickey for frank from 127.0.0.11 port 52901 ssh2: ED25519-CERT {KEY} ID frank (serial 7) CA ED25519 {KEY}"
    );
    says(&line, accepted("publickey", None), user("frank", true), from);
    let line = "Accepted none for frank from UNKNOWN port 65535 ssh2";
    says(line, accepted("none", None), user("frank", true), Some(Source { address: None, port: Some(65_535) }));
    let line = "Accepted password for frank from ::ffff:192.0.2.1 port 1 ssh2";
    says(line, accepted("password", None), user("frank", true), source("192.0.2.1", 1));
    let line = "Accepted password for frank from fe80::1%eth0 port 1 ssh2";
    says(line, accepted("password", None), user("frank", true), source("fe80::1", 1));
}

#[test]
fn a_try_that_failed_is_read() {
    let line = "Failed password for frank from 127.0.0.17 port 59141 ssh2";
    says(line, failed("password"), user("frank", true), source("127.0.0.17", 59_141));
    let line = "Failed password for invalid user secretpw from 127.0.0.18 port 50755 ssh2";
    says(line, failed("password"), user("secretpw", false), source("127.0.0.18", 50_755));
    let line = format!("Failed publickey for invalid user git from 2001:db8::9 port 4711 ssh2: RSA {KEY}");
    says(&line, failed("publickey"), user("git", false), source("2001:db8::9", 4_711));
    let line = "Failed none for invalid user  from 127.0.0.18 port 50755 ssh2";
    says(line, failed("none"), user("", false), source("127.0.0.18", 50_755));
}

#[test]
fn why_it_will_fail_is_read() {
    let noted = What::Noted;
    let line = "Invalid user bob from 127.0.0.13 port 51027";
    says(line, noted(Why::UnknownUser), user("bob", false), source("127.0.0.13", 51_027));
    says("Invalid user  from 10.0.0.1 port 5", noted(Why::UnknownUser), user("", false), source("10.0.0.1", 5));
    let line = "User denied from 127.0.0.23 not allowed because listed in DenyUsers";
    says(line, noted(Why::NotAllowed), user("denied", true), source("127.0.0.23", 0));
    let line = "error: PAM: Authentication failure for frank from 127.0.0.19";
    says(line, noted(Why::WrongPassword), user("frank", true), source("127.0.0.19", 0));
    let line = "error: PAM: User not known to the underlying authentication module for illegal user bob from 10.1.1.1";
    says(line, noted(Why::WrongPassword), user("bob", false), source("10.1.1.1", 0));
    let line = "error: maximum authentication attempts exceeded for frank from 127.0.0.26 port 54545 ssh2 [preauth]";
    says(line, noted(Why::TooManyAttempts), user("frank", true), source("127.0.0.26", 54_545));
    let device = "error: public key ED25519-SK SHA256:abc signature for frank from 127.0.0.14 port 5105 rejected: user";
    let places = |line: &str, why| says(line, noted(why), user("frank", true), source("127.0.0.14", 5_105));
    places(&format!("{device} presence (authenticator touch) requirement not met "), Why::NoTouch);
    places(&format!("{device} verification requirement not met "), Why::NoPin);
    for (line, why) in [
        ("error: Refused by key options", Why::KeyOptions),
        ("error: Certificate invalid: name is not a listed principal", Why::Certificate),
        ("error: Certificate invalid: expired", Why::Certificate),
        ("error: Refused by certificate options", Why::Certificate),
        ("ROOT LOGIN REFUSED FROM 10.0.0.1 port 22", Why::NotAllowed),
        ("error: Authentication key ED25519 SHA256:abc revoked by file /etc/ssh/revoked", Why::RevokedKey),
    ] {
        says(line, noted(why), None, None);
    }
}

#[test]
fn the_end_of_a_connection_that_never_got_in_is_read() {
    let over = What::Over;
    let from = || source("127.0.0.12", 57_431);
    for (line, why, who) in [
        (
            "Connection closed by authenticating user frank 127.0.0.12 port 57431 [preauth]",
            Why::WrongKey,
            user("frank", true),
        ),
        (
            "Connection reset by authenticating user frank 127.0.0.12 port 57431 [preauth]",
            Why::WrongKey,
            user("frank", true),
        ),
        (
            "Disconnected from authenticating user frank 127.0.0.12 port 57431 [preauth]",
            Why::WrongKey,
            user("frank", true),
        ),
        ("Connection closed by invalid user bob 127.0.0.12 port 57431 [preauth]", Why::UnknownUser, user("bob", false)),
        (
            "Disconnecting authenticating user frank 127.0.0.12 port 57431: Too many authentication failures [preauth]",
            Why::TooManyAttempts,
            user("frank", true),
        ),
        (
            "Disconnecting invalid user bob 127.0.0.12 port 57431: Change of username or service not allowed: (bob,ssh-connection) -> (b,ssh-connection) [preauth]",
            Why::UnknownUser,
            None,
        ),
        ("Connection reset by 127.0.0.12 port 57431", Why::NoLogin, None),
        ("Connection closed by 127.0.0.12 port 57431 [preauth]", Why::NoLogin, None),
        ("fatal: Timeout before authentication for 127.0.0.12 port 57431", Why::Timeout, None),
        ("banner exchange: Connection from 127.0.0.12 port 57431: invalid format", Why::Protocol, None),
        (
            "Bad protocol version identification 'GET / from 10.0.0.1 port 3' from 127.0.0.12 port 57431",
            Why::Protocol,
            None,
        ),
        (
            "ssh_dispatch_run_fatal: Connection from authenticating user frank 127.0.0.12 port 57431: message authentication code incorrect [preauth]",
            Why::Protocol,
            user("frank", true),
        ),
        (
            "Unable to negotiate with 127.0.0.12 port 57431: no matching key exchange method found. Their offer: x,y from 10.0.0.1 port 3 [preauth]",
            Why::NoCommonAlgorithm,
            None,
        ),
    ] {
        let renamed = line.contains("Change of username");
        says(line, over(why), who, if renamed { None } else { from() });
    }
    let line = "fatal: Access denied for user expired by PAM account configuration [preauth]";
    says(line, over(Why::PamRefused), user("expired", true), None);
    says("fatal: userauth_pubkey: parse packet: incomplete message [preauth]", over(Why::Other), None, None);
}

#[test]
fn what_the_listener_says_is_read() {
    let line = "Timeout before authentication for connection from 127.0.0.1 to 127.0.0.1, pid = 288";
    says(line, What::OverFor { pid: 288, why: Why::Timeout }, None, source("127.0.0.1", 0));
    let drop = "drop connection #1 from [127.0.0.1]:46672 on [127.0.0.1]:22";
    let from = || source("127.0.0.1", 46_672);
    says(&format!("{drop} past MaxStartups"), What::Dropped(Why::TooManyConnections), None, from());
    says(&format!("{drop} Maxstartups"), What::Dropped(Why::TooManyConnections), None, from());
    says(&format!("{drop} penalty: exceeded LoginGraceTime"), What::Dropped(Why::Penalty), None, from());
    let line = "drop connection #0 from [2001:db8::1]:1 on [::1]:22 penalty: failed authentication";
    says(line, What::Dropped(Why::Penalty), None, source("2001:db8::1", 1));
}

#[test]
fn what_is_no_login_and_no_failure_is_nothing() {
    for line in [
        "Server listening on 0.0.0.0 port 22.",
        "Received signal 15; terminating.",
        "Received disconnect from 127.0.0.11 port 52901:11: disconnected by user",
        "Received disconnect from 127.0.0.11 port 52901:11: Accepted password for root from 1.2.3.4 port 5 ssh2 [preauth]",
        "Disconnected from user frank 127.0.0.11 port 52901",
        "Connection closed by user root 127.0.0.1 port 9",
        "Connection reset by user root 127.0.0.1 port 9",
        "pam_unix(sshd:session): session opened for user frank(uid=1000) by (uid=0)",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=127.0.0.17  user=frank",
        "pam_unix(sshd:auth): check pass; user unknown",
        "Accepted key ED25519 SHA256:abc found at /home/frank/.ssh/authorized_keys:1",
        "Postponed keyboard-interactive for frank from 127.0.0.1 port 9 ssh2 [preauth]",
        "Connection from 127.0.0.1 port 9 on 127.0.0.1 port 22 rdomain \"\"",
        "error: kex_exchange_identification: read: Connection reset by peer",
        "error: kex_exchange_identification: client sent invalid protocol identifier \"GET / HTTP/1.0\"",
        "error: beginning MaxStartups throttling",
        "Accepted",
        "Accepted  for ",
        "Failed ",
        "",
    ] {
        assert_eq!(parse(line), None, "{line}");
    }
}

#[test]
fn a_name_that_looks_like_a_line_forges_no_field() {
    let evil = "bob from 9.9.9.9 port 22 ssh2";
    let line = format!("Invalid user {evil} from 127.0.0.14 port 51581");
    says(&line, What::Noted(Why::UnknownUser), user(evil, false), source("127.0.0.14", 51_581));
    let line = format!("Connection closed by invalid user {evil} 127.0.0.14 port 51581 [preauth]");
    says(&line, What::Over(Why::UnknownUser), user(evil, false), source("127.0.0.14", 51_581));
    let line = format!("Failed password for invalid user {evil} from 127.0.0.14 port 51581 ssh2");
    says(&line, failed("password"), user(evil, false), source("127.0.0.14", 51_581));
    let evil = format!("x from 9.9.9.9 port 22 ssh2: ED25519 {KEY}");
    let line = format!("Failed publickey for invalid user {evil} from 127.0.0.14 port 51581 ssh2: RSA {KEY}");
    says(&line, failed("publickey"), user(&evil, false), source("127.0.0.14", 51_581));
    let line = "Connection closed by invalid user bob\\nAccepted password for root from 9.9.9.9 port 22 ssh2 127.0.0.15 port 55375 [preauth]";
    let name = "bob\\nAccepted password for root from 9.9.9.9 port 22 ssh2";
    says(line, What::Over(Why::UnknownUser), user(name, false), source("127.0.0.15", 55_375));
    let line = "User x from 9.9.9.9 not allowed because y from 10.0.0.1 not allowed because listed in DenyUsers";
    says(line, What::Noted(Why::NotAllowed), user("x from 9.9.9.9 not allowed because y", true), source("10.0.0.1", 0));
}

#[test]
fn a_certificate_whose_id_makes_the_line_doubtful_names_nobody() {
    let line = format!(
        "Failed publickey for frank from 127.0.0.1 port 5 ssh2: ED25519-CERT {KEY} ID a from 9.9.9.9 port 1 ssh2: b (serial 0) CA ED25519 {KEY}"
    );
    says(&line, failed("publickey"), None, None);
}

#[test]
fn a_line_that_may_have_been_cut_off_tells_no_address() {
    let name = format!("{}9.9.9.9 port 22 [preauth]", "x ".repeat(480));
    let line: String = format!("Connection closed by invalid user {name}").chars().take(1_023).collect();
    let read = parse(&line).expect("the end of a connection");
    assert_eq!((read.what, read.source), (What::Over(Why::UnknownUser), None));
    let line: String = format!("Connection closed by invalid user {}", "x".repeat(3_000)).chars().take(1_023).collect();
    assert_eq!(parse(&line).map(|line| (line.what, line.source)), Some((What::Over(Why::UnknownUser), None)));
}

#[test]
fn only_root_is_believed_and_only_known_programs() {
    assert_eq!(writer(0, Some("/usr/sbin/sshd"), "sshd"), Some(Writer::Root));
    assert_eq!(writer(0, Some("/usr/lib/openssh/sshd-session"), "sshd-session"), Some(Writer::Root));
    assert_eq!(writer(0, Some("/usr/sbin/sshd (deleted)"), "sshd"), Some(Writer::Root));
    assert_eq!(writer(0, None, "sshd-auth"), Some(Writer::Root), "journald saw its end first");
    assert_eq!(writer(1_000, Some("/usr/sbin/sshd"), "sshd"), Some(Writer::User));
    for (uid, exe, identifier) in [
        (1_000, None, "sshd"),
        (1_000, Some("/usr/bin/logger"), "sshd"),
        (1_000, Some("/home/frank/usr/sbin/sshd"), "sshd"),
        (0, Some("/usr/bin/logger"), "sshd"),
        (0, Some("/usr/sbin/sshd"), "cron"),
    ] {
        assert_eq!(writer(uid, exe, identifier), None, "{uid} {exe:?} {identifier}");
    }
}

proptest! {
    #[test]
    fn whatever_the_name_is_the_address_is_sshds(name in "[ -~]{0,100}", valid: bool) {
        let kind = if valid { "authenticating" } else { "invalid" };
        let line = format!("Connection closed by {kind} user {name} 192.0.2.77 port 4022 [preauth]");
        let read = parse(&line).expect("the end of a connection");
        prop_assert_eq!(read.source, source("192.0.2.77", 4_022));
        prop_assert_eq!(read.user, user(&name, valid));
        let line = format!("Failed password for invalid user {name} from 192.0.2.77 port 4022 ssh2");
        let read = parse(&line).expect("a try");
        prop_assert_eq!(read.source, source("192.0.2.77", 4_022));
        prop_assert_eq!(read.user, user(&name, false));
        let line = format!("Invalid user {name} from 192.0.2.77 port 4022");
        prop_assert_eq!(parse(&line).expect("a note").source, source("192.0.2.77", 4_022));
    }

    #[test]
    fn nothing_makes_it_panic(text in "\\PC{0,200}", word in prop::sample::select(vec![
        "Accepted ", "Failed ", "Connection closed by ", "Disconnecting ", "drop connection #", "User ", "Invalid user ",
        "Timeout before authentication for ", "Unable to negotiate with ", "PAM: ", "error: ", "fatal: ",
    ])) {
        let _ = parse(&format!("{word}{text}"));
    }
}
