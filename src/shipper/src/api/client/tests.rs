//! Certificates, tokens and what is said of them.

use super::*;
use crate::{http::Server, testing};

fn api(url: &str) -> Api {
    Api { server: Server { url: url.to_owned(), authorities: None, certificate: None }, receipt_keys: Vec::new() }
}

#[test]
fn missing_certificates_say_what_would_work() {
    let (dir, paths) = testing::paths();
    let error = Client::new(&api("https://a.example"), &paths).unwrap_err();
    assert!(error.contains("install ca-certificates"), "{error}");
    std::fs::write(&paths.system_authorities, "no PEM").unwrap();
    assert!(Client::new(&api("https://a.example"), &paths).unwrap_err().contains("no certificate in PEM"));
    let mut named = api("https://a.example");
    named.server.authorities = Some(dir.path().join("own.pem"));
    assert!(Client::new(&named, &paths).unwrap_err().contains("own.pem"));
    // Plain http needs none.
    Client::new(&api("http://127.0.0.1:1"), &paths).unwrap();
}

#[test]
fn a_token_is_read_without_the_white_space_around_it_and_never_said() {
    let (_dir, mut paths) = testing::paths();
    let path = paths.credential("enrolment-token").unwrap();
    assert!(enrolment_token(&paths).unwrap_err().contains("/etc/lockdownd/credentials/enrolment-token"));
    std::fs::write(&path, "\n").unwrap();
    assert!(enrolment_token(&paths).unwrap_err().contains("restart lockdownd-shipper"));
    std::fs::write(&path, " ca_enrol_x\n").unwrap();
    assert_eq!(enrolment_token(&paths).unwrap(), "ca_enrol_x");
    std::fs::write(&path, "se cret\r\nX-Evil: 1").unwrap();
    let error = enrolment_token(&paths).unwrap_err();
    assert!(error.contains("no token") && !error.contains("cret"), "{error}");
    paths.credentials = None;
    enrolment_token(&paths).unwrap_err();
}

#[test]
fn a_server_that_is_not_there_is_an_error_that_names_it() {
    let (_dir, paths) = testing::paths();
    let client = Client::new(&api("http://127.0.0.1:1"), &paths).unwrap();
    let error = client.send("[]", None, WHOLE).unwrap_err();
    assert!(error.contains("http://127.0.0.1:1/v1/artifacts") && error.contains("refused"), "{error}");
    assert!(!format!("{client:?}").contains("agent"));
}

#[test]
fn a_request_never_takes_longer_than_it_may() {
    let (_dir, paths) = testing::paths();
    let server = testing::Server::start(|_| testing::Reply::Hang(Duration::from_secs(60)));
    let client = Client::new(&api(&server.url), &paths).unwrap();
    let begun = std::time::Instant::now();
    let error = client.send("[]", None, Duration::from_millis(300)).unwrap_err();
    assert!(error.contains("no answer in time") && begun.elapsed() < Duration::from_secs(5), "{error}");
}

#[test]
fn a_connection_closed_on_a_client_without_a_certificate_says_which_setting_names_one() {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset};
    let hint = "ship.api.client_certificate names";
    let said = |without, kind: std::io::ErrorKind| http::describe("https://a", without, &Error::Io(kind.into()));
    for kind in [BrokenPipe, ConnectionReset] {
        assert!(said(true, kind).contains(hint) && !said(false, kind).contains(hint), "{kind}");
    }
    assert!(!said(true, ConnectionRefused).contains(hint));
}
