//! Who is told of requests, lockdowns and incidents: a real listener gets what the server posts.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use compliance_api::config::Webhook;
use serde_json::{Value, json};

use crate::common::{
    Server,
    acme::{hearing, published, taken},
    company::{asked, document, grant, lockdown, of_acme, roster, signed, w},
};

/// A listener that answers each POST with the next of these statuses, and hands on what was posted.
fn listener(statuses: &'static [u16]) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut statuses = statuses.iter().chain(std::iter::repeat(&200));
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut length = 0;
            for line in reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = text.parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let status = statuses.next().unwrap();
            let answer = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            if *status == 200 && send.send(serde_json::from_slice(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, receive)
}

fn telling(url: String) -> Server {
    Server::start_with(|config| {
        of_acme(config);
        config.webhook = Some(Webhook { url, ca_file: None });
    })
}

#[test]
fn people_are_told_of_requests_lockdowns_and_incidents_and_of_nothing_twice() {
    let (url, told) = listener(&[503]);
    let server = telling(url);
    hearing(&server, "i-1", "web");
    published(&server, &signed(&document(roster(1)), &["ceo"]));
    let wanted = document(grant("ubuntu", "INC-42 <!channel>"));
    taken(&server, &asked(&wanted, "frank"));
    taken(&server, &asked(&wanted, "frank"));
    taken(&server, &signed(&wanted, &["alice approves"]));
    published(&server, &signed(&document(lockdown("web", true)), &["bob approves"]));
    let next = || told.recv_timeout(Duration::from_secs(20)).unwrap();
    let request = next();
    assert_eq!(
        (&request["event"], &request["document"]),
        (&json!("request"), &json!(wanted.id().to_string())),
        "{request}"
    );
    let text = request["text"].as_str().unwrap();
    assert!(
        text.starts_with("frank asks for ubuntu on web for 2 h 00 min: INC-42 ‹!channel›. It takes 2 more"),
        "{text}"
    );
    assert_eq!((&request["stack"], &request["person"]), (&json!("web"), &json!("frank")));
    let lockdown = next();
    assert_eq!(lockdown["text"], "bob locked web down, until it is lifted: incident", "{lockdown}");
    server.client().with(&format!("ca_auditor_{}", "A".repeat(43))).get("/v1/hosts");
    let incident = next();
    assert_eq!(
        (&incident["event"], &incident["incident"]["kind"]),
        (&json!("incident"), &json!("bad_token")),
        "{incident}"
    );
    let other = document::Roster { people: vec![], ..roster(1) };
    let answer = crate::common::acme::post(&server, &signed(&document(other), &["cto"]));
    assert_eq!(answer.outcome(), (422, "other_bytes".to_owned()));
    assert_eq!(next()["incident"]["kind"], "two_rosters");
    assert!(told.recv_timeout(Duration::from_secs(2)).is_err(), "nothing more");
}

#[test]
fn who_does_not_answer_holds_nothing_up() {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = telling(format!("http://{}/hook", silent.local_addr().unwrap()));
    published(&server, &signed(&document(roster(1)), &["ceo"]));
    for n in 0..5 {
        let closes = document::Lockdown { reason: w(&format!("number {n}")), ..lockdown("web", false) };
        published(&server, &signed(&document(closes), &["alice approves"]));
    }
}
