//! The content modes of the CloudEvents HTTP binding. tests/cloudevents has the SDK for Python post in each of them.

use crate::common::Server;
use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

#[test]
fn one_record_is_taken_by_itself_structured_and_binary_and_from_base64() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.logins(3);
    let structured = server.client().send(
        "POST",
        "/v1/artifacts",
        "application/cloudevents+json",
        host.event(host.line(3)).as_bytes(),
    );
    assert_eq!((structured.status, &structured.json()["stored"]), (200, &json!(1)), "{structured:?}");
    let line = host.line(4).as_str().trim_end();
    let kind = serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned();
    let attributes = format!(
        "application/json\r\nce-specversion: 1.0\r\nce-id: {}/4\r\nce-source: /stacks/web/hosts/%69-1\r\nce-type: {kind}",
        host.ledger
    );
    let binary = server.client().send("POST", "/v1/artifacts", &attributes, line.as_bytes());
    assert_eq!((binary.status, &binary.json()["stored"]), (200, &json!(1)), "{binary:?}");
    let line = host.line(5).as_str().trim_end();
    let event = host.event(host.line(5));
    let coded = event.replace(
        &format!("\"data\":{line}"),
        &format!("\"data_base64\":\"{}\"", Base64::encode_string(line.as_bytes())),
    );
    assert_ne!(event, coded);
    let base64 = server.client().ingest(&format!("[{},{coded}]", host.event(host.line(4))));
    assert_eq!((base64.status, &base64.json()["stored"]), (200, &json!(1)), "{base64:?}");
    assert_eq!(base64.json()["head"]["hash"], host.head().to_string());
    for (media, why) in [
        ("application/json", "media_type"),
        ("application/cloudevents+avro\r\nce-specversion: 1.0", "media_type"),
        ("text/plain\r\nce-specversion: 1.0", "media_type"),
        ("application/json\r\nce-specversion: 1.0\r\nce-id: %ff", "malformed"),
        ("application/json\r\nce-specversion: 1.0", "malformed"),
        ("application/cloudevents-batch+json\r\nce-specversion: 1.0", "malformed"),
    ] {
        let refused = server.client().send("POST", "/v1/artifacts", media, line.as_bytes());
        assert_eq!(refused.code(), why, "{media}: {refused:?}");
    }
}
