//! Answers that are compressed where the client takes them so, and those that never are.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use compliance_api::token::Role;
use flate2::read::GzDecoder;
use serde_json::Value;

use crate::common::{
    Client, Server,
    acme::{acme_with_host, reader},
    server::wanted,
};

/// An answer's header and its bytes, without the chunks that they come in.
fn raw(client: &Client, method: &str, path: &str, headers: &str, body: &str) -> (String, Vec<u8>) {
    let mut stream = client.connect();
    let token = client.token.as_deref().unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    let head = head.to_ascii_lowercase();
    let mut bytes = Vec::new();
    if !head.contains("transfer-encoding: chunked") {
        reader.read_to_end(&mut bytes).unwrap();
        return (head, bytes);
    }
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).unwrap();
        if size == 0 {
            return (head, bytes);
        }
        bytes.extend_from_slice(&chunk[..size]);
    }
}

const GZIP: &str = "Accept-Encoding: gzip\r\n";

#[test]
fn what_is_read_is_compressed_for_whoever_takes_it_so_and_is_the_same() {
    let server = Server::start();
    let mut host = server.host("i-1");
    host.logins(300);
    assert_eq!(server.client().ingest(&host.batch(3..=302)).status, 200);
    let auditor = reader(&server);
    let ledger = format!("/v1/artifacts?ledger={}&form=record", host.ledger);
    for (path, lines) in [(ledger.as_str(), true), ("/openapi.json", false), ("/v1/hosts?limit=5", false)] {
        let accept = if lines { "Accept: application/x-ndjson\r\n" } else { "" };
        let (head, plain) = raw(&auditor, "GET", path, accept, "");
        assert!(!head.contains("content-encoding"), "{path}: {head}");
        let (head, packed) = raw(&auditor, "GET", path, &format!("{GZIP}{accept}"), "");
        assert!(head.contains("content-encoding: gzip") && head.contains("vary: accept-encoding"), "{path}: {head}");
        let mut same = Vec::new();
        GzDecoder::new(packed.as_slice()).read_to_end(&mut same).unwrap();
        if lines {
            assert_eq!(same, plain, "{path}");
            let records: Vec<u8> = host.lines.iter().flat_map(|line| line.as_str().bytes()).collect();
            assert_eq!(same, records);
            assert!(packed.len() * 3 < plain.len(), "{} of {}", packed.len(), plain.len());
        } else {
            serde_json::from_slice::<Value>(&same).unwrap();
        }
    }
}

#[test]
fn what_holds_a_secret_beside_what_somebody_chose_is_never_compressed() {
    let (server, ..) = acme_with_host();
    let admin = server.client().with(&server.token(wanted(Role::Admin)));
    let media = format!("{GZIP}Content-Type: application/json\r\n");
    for (method, path, body) in [
        ("POST", "/v1/tokens", "{\"role\":\"auditor\",\"name\":\"chosen\"}"),
        ("GET", "/v1/tokens", ""),
        ("POST", "/v1/sessions/challenge", ""),
        ("POST", "/v1/sessions", "{}"),
        ("GET", "/v1/feed?stack=web", ""),
    ] {
        let (head, body) = raw(&admin, method, path, &media, body);
        assert!(!head.contains("content-encoding"), "{path}: {head}");
        serde_json::from_slice::<Value>(&body).expect(path);
    }
}
