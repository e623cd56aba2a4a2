//! Pages, as a browser meets them: who sees what, what stands in them as text, and what is on record of it.

use compliance_api::{admin::Wanted, token::Role};
use record::{ArtifactType, Draft};
use serde_json::json;

use crate::common::{
    Host, Server,
    http::{Answer, read_answer},
    server::wanted,
};

/// What a hostile name or reason could do, if it were taken for more than text.
const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>\u{202e}";

struct Browser<'a> {
    server: &'a Server,
    cookie: String,
}

fn ask(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    use std::io::Write as _;
    let mut stream = server.client().connect();
    let form = if body.is_empty() { "" } else { "Content-Type: application/x-www-form-urlencoded\r\n" };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAccept: text/html\r\n{headers}{form}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    read_answer(stream).unwrap()
}

fn header(answer: &Answer, name: &str) -> Option<String> {
    let line = answer.headers.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.map(|value| value.trim().to_owned())
}

/// As [`header`], in its own case, which the client of the tests does not keep.
fn raw_cookie(server: &Server, token: &str) -> (String, String) {
    use std::io::{Read as _, Write as _};
    let mut stream = server.client().connect();
    let body = format!("token={token}&to=/people/frank");
    write!(stream, "POST /sign-in HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: "));
    let line = line.unwrap_or_else(|| panic!("{text}"))[12..].to_owned();
    (line.split(';').next().unwrap().to_owned(), line)
}

impl<'a> Browser<'a> {
    fn signed_in(server: &'a Server, token: &str) -> Self {
        Self { server, cookie: raw_cookie(server, token).0 }
    }

    fn get(&self, path: &str) -> Answer {
        ask(self.server, "GET", path, &format!("Cookie: {}\r\n", self.cookie), "")
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> Answer {
        ask(self.server, "POST", path, &format!("Cookie: {}\r\n{headers}", self.cookie), body)
    }
}

fn auditor(server: &Server, stack: Option<&str>) -> String {
    server.token(Wanted { stack: stack.map(|s| s.parse().unwrap()), ..wanted(Role::Auditor) })
}

/// The end of the ids on this host.
fn id(host: &str) -> &'static str {
    if host == "web-1" { "00000000000000a1" } else { "00000000000000b2" }
}

/// A host on which frank was granted access, used it, and was cut off.
fn host(server: &Server, name: &str, stack: &str, why: &str) -> Host {
    let mut host = Host::new(name, stack);
    let of_frank = |kind, reason: String| {
        let mut draft = Draft::new(kind, reason);
        draft.person = Some("frank".parse().unwrap());
        draft.account = Some("ubuntu".parse().unwrap());
        draft.grant = Some(format!("g-{}", id(name)).parse().unwrap());
        draft
    };
    let (starts, expires) = (host.time.to_string(), (host.time + jiff::SignedDuration::from_hours(1)).to_string());
    let given = of_frank(ArtifactType::GrantCreated, format!("frank may log in: {why}"));
    host.state(&given.with("starts_at", starts).with("expires_at", expires.clone()).with("why", why));
    let mut opened = of_frank(ArtifactType::SessionOpened, "frank logged in".to_owned());
    opened.session = Some(format!("s-{}", id(name)).parse().unwrap());
    host.state(&opened.with("methods", json!(["publickey"])));
    let mut refused = Draft::new(ArtifactType::SessionRefused, format!("login refused: {why}"));
    refused.person = Some("mallory".parse().unwrap());
    host.state(&refused);
    let at = host.time.to_string();
    let ended = of_frank(ArtifactType::GrantEnded, format!("frank's grant ended: {why}"));
    host.state(&ended.with("ended", "revoked").with("at", at).with("expires_at", expires));
    let answer = server.client().with(&server.enrol_token(stack)).ingest(&host.all());
    assert_eq!(answer.status, 200, "{answer:?}");
    host
}

#[test]
fn one_is_led_to_sign_in_and_from_there_to_the_page_and_out_again() {
    let server = Server::start();
    host(&server, "web-1", "web", "INC-42");
    let led = ask(&server, "GET", "/people/frank?from=2026-11-01", "", "");
    assert_eq!(led.status, 303);
    assert_eq!(header(&led, "location").unwrap(), "/sign-in?to=%2fpeople%2ffrank%3ffrom%3d2026-11-01");
    assert!(ask(&server, "GET", "/sign-in", "", "").body.contains("<form"));
    for (token, says) in [
        ("ca_auditor_x".to_owned(), "This is no token"),
        (format!("ca_auditor_{}", "A".repeat(43)), "unknown, has ended or was revoked"),
        (server.enrol_token("web"), "does not read evidence"),
    ] {
        let answer = ask(&server, "POST", "/sign-in", "", &format!("token={token}"));
        assert!(answer.status == 401 && answer.body.contains(says), "{answer:?}");
        assert_eq!(header(&answer, "set-cookie"), None);
    }
    let token = auditor(&server, None);
    let (cookie, line) = raw_cookie(&server, &token);
    for needed in ["__Host-lockdown=", "; Path=/;", "; Secure", "; HttpOnly", "; SameSite=Strict"] {
        assert!(line.contains(needed), "{needed}: {line}");
    }
    assert!(!line.contains(&token));
    let browser = Browser { server: &server, cookie };
    assert!(browser.get("/people/frank").body.contains("<h1><bdi>frank</bdi></h1>"));
    let key =
        browser.get("/").body.split("name=\"form_key\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(browser.post("/sign-out", "", "form_key=wrong").status, 403);
    assert_eq!(browser.get("/").status, 200);
    assert_eq!(browser.post("/sign-out", "", &format!("form_key={key}")).status, 303);
    assert_eq!(browser.get("/").status, 303, "a copy of the cookie opens nothing either");
}

#[test]
fn a_cookie_is_good_only_as_this_server_made_it_and_as_long_as_its_token() {
    let server = Server::start();
    let token = auditor(&server, None);
    let browser = Browser::signed_in(&server, &token);
    assert_eq!(browser.get("/").status, 200);
    let (name, value) = browser.cookie.split_once('=').unwrap();
    for at in [0, 12, 40, 80, value.len() - 5] {
        let mut bytes = value.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = format!("{name}={}", String::from_utf8(bytes).unwrap());
        assert_eq!(Browser { server: &server, cookie: changed }.get("/").status, 303, "byte {at}");
    }
    let id: String = server.one("SELECT id FROM tokens WHERE role = 'auditor'");
    assert_eq!(server.admin().delete(&format!("/v1/tokens/{id}")).status, 204);
    assert_eq!(browser.get("/").status, 303);
}

#[test]
fn a_form_of_another_site_is_refused_and_a_link_from_there_leads_on() {
    let server = Server::start();
    let token = auditor(&server, None);
    for headers in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Origin: https://evil.example.com\r\n",
        "Origin: null\r\n",
    ] {
        let answer = ask(&server, "POST", "/sign-in", headers, &format!("token={token}"));
        assert_eq!((answer.status, header(&answer, "set-cookie")), (403, None), "{headers}");
    }
    let forward = ask(&server, "GET", "/people/frank", "Sec-Fetch-Site: cross-site\r\n", "");
    assert!(forward.status == 200 && forward.body.contains("content=\"0;url=/people/frank\""), "{forward:?}");
}

#[test]
fn every_page_names_what_a_browser_may_load_and_nothing_stands_inline() {
    let server = Server::start();
    let host = host(&server, "web-1", "web", "INC-42");
    let browser = Browser::signed_in(&server, &auditor(&server, None));
    let record = format!("/records/{}/3", host.ledger);
    for path in [
        "/",
        "/stacks/web",
        "/hosts/web-1",
        "/people/frank",
        "/grants/g-00000000000000a1",
        &record,
        "/requirements",
        "/requirements/164.312(d)",
        "/incidents",
        "/review",
        "/search?q=INC",
        "/search?q=nothing-such",
        "/sign-in",
        "/hosts/none",
    ] {
        let answer = browser.get(path);
        let policy = header(&answer, "content-security-policy").unwrap_or_default();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(header(&answer, "x-content-type-options").as_deref(), Some("nosniff"), "{path}");
        assert_eq!(header(&answer, "cache-control").as_deref(), Some("no-store"), "{path}");
        assert!(answer.body.is_empty() || answer.body.starts_with("<!DOCTYPE html>"), "{path}: {}", answer.body);
        for inline in ["<style", " style=", " onclick=", "<script>", "http://", "https://"] {
            assert!(!answer.body.contains(inline), "{path}: {inline}");
        }
        assert!(answer.body.len() < 100 * 1024, "{path}: {} bytes", answer.body.len());
    }
    let page = browser.get("/").body;
    let style = page.split("href=\"/assets/style-").nth(1).unwrap().split('"').next().unwrap();
    let style = browser.get(&format!("/assets/style-{style}"));
    assert!(style.status == 200 && header(&style, "cache-control").unwrap().contains("immutable"), "{style:?}");
}

#[test]
fn what_anybody_wrote_is_text_on_every_page() {
    let server = Server::start();
    let host = host(&server, "web-1", "web", HOSTILE);
    let browser = Browser::signed_in(&server, &auditor(&server, None));
    let record = format!("/records/{}/3", host.ledger);
    let query = "/search?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    for path in [
        "/",
        "/stacks/web",
        "/hosts/web-1",
        "/people/frank",
        "/people/mallory",
        "/grants/g-00000000000000a1",
        &record,
        "/review",
        query,
        "/hosts/%3Cscript%3E",
        "/requirements/%3Cscript%3E",
    ] {
        let answer = browser.get(path);
        assert!(
            !answer.body.contains("<script>") && !answer.body.contains("<img") && !answer.body.contains('\u{202e}'),
            "{path}: {}",
            answer.body
        );
        assert!(answer.body.contains("<h1"), "{path}: {answer:?}");
    }
    assert!(browser.get("/people/frank").body.contains("&lt;script&gt;"));
}

#[test]
fn an_auditor_of_one_stack_sees_nothing_of_another() {
    let server = Server::start();
    let web = host(&server, "web-1", "web", "INC-42 in web");
    let db = host(&server, "db-1", "db", "INC-42 in db");
    let browser = Browser::signed_in(&server, &auditor(&server, Some("web")));
    for path in [
        "/",
        "/stacks/web",
        "/hosts/web-1",
        "/people/frank",
        "/review",
        "/search?q=INC-42",
        "/grants/g-00000000000000a1",
        "/requirements/164.312(d)",
    ] {
        let answer = browser.get(path);
        assert!(
            answer.status == 200
                || header(&answer, "location") == Some("/grants/g-00000000000000a1?host=web-1".to_owned()),
            "{path}: {answer:?}"
        );
        assert!(!answer.body.contains("db-1") && !answer.body.contains("in db"), "{path}: {}", answer.body);
    }
    for (path, status) in [
        ("/hosts/db-1", 404),
        ("/grants/g-00000000000000b2", 404),
        ("/stacks/db", 403),
        ("/incidents", 403),
        ("/review?stack=db", 403),
        (&format!("/records/{}/3", db.ledger), 404),
        (&format!("/records/{}/3", web.ledger), 200),
    ] {
        assert_eq!(browser.get(path).status, status, "{path}");
    }
    for q in ["db-1", "db", "g-00000000000000b2"] {
        assert!(browser.get(&format!("/search?q={q}")).body.contains("Nothing that you may read"), "{q}");
    }
    assert!(browser.get("/").body.contains("<b>1</b> hosts"));
}

#[test]
fn an_auditor_of_one_window_sees_nothing_of_another() {
    let server = Server::start();
    host(&server, "web-1", "web", "INC-42");
    let window = Wanted {
        from: Some("2025-01-01T00:00:00Z".parse().unwrap()),
        to: Some("2025-02-01T00:00:00Z".parse().unwrap()),
        ..wanted(Role::Auditor)
    };
    let browser = Browser::signed_in(&server, &server.token(window));
    for path in ["/people/frank", "/hosts/web-1", "/review", "/", "/stacks/web"] {
        let answer = browser.get(path);
        assert!(
            answer.status == 200 && !answer.body.contains("INC-42") && !answer.body.contains("g-00000000000000a1"),
            "{path}: {answer:?}"
        );
    }
    assert_eq!(browser.get("/people/frank?from=2026-01-01").status, 403);
    assert_eq!(browser.get("/grants/g-00000000000000a1").status, 404);
}

#[test]
fn every_page_that_is_read_is_on_record_with_what_was_asked() {
    let server = Server::start();
    host(&server, "web-1", "web", "INC-42");
    let browser = Browser::signed_in(&server, &auditor(&server, None));
    browser.get("/people/frank?from=2026-11-01");
    browser.get("/search?q=%49NC-42");
    let told = server.client().with(&auditor(&server, None)).get("/v1/artifacts?type=evidence.read").body;
    assert!(told.contains(r#"{"from":"2026-11-01","page":"person","person":"frank"}"#), "{told}");
    assert!(told.contains(r#"{"page":"search","q":"INC-42"}"#), "{told}");
    let signed_in = server.client().with(&auditor(&server, None)).get("/v1/artifacts?type=reader.admitted").body;
    assert!(signed_in.contains("signed in to read pages"), "{signed_in}");
}

#[test]
fn a_browser_is_told_in_a_page_why_not_and_a_program_as_before() {
    let server = Server::start();
    let page = ask(&server, "GET", "/nothing/here", "", "");
    assert!(page.status == 404 && page.body.contains("Nothing here"), "{page:?}");
    let page = ask(&server, "GET", "/v1/hosts", "", "");
    assert!(page.status == 401 && page.body.contains("Sign in first"), "{page:?}");
    assert_eq!(server.client().get("/nothing/here").outcome(), (404, "not_found".to_owned()));
    assert_eq!(server.client().get("/v1/hosts").outcome(), (401, "bad_token".to_owned()));
}

#[test]
fn the_search_box_leads_to_whatever_there_is_one_of() {
    let server = Server::start();
    host(&server, "web-1", "web", "INC-42");
    let browser = Browser::signed_in(&server, &auditor(&server, None));
    for (q, wanted) in [
        ("mallory", "/people/mallory"),
        ("web-1", "/hosts/web-1"),
        ("inc-42", "/grants/g-00000000000000a1?host=web-1"),
        ("g-00000000000000a1", "/grants/g-00000000000000a1?host=web-1"),
        ("web", "/stacks/web"),
    ] {
        assert_eq!(header(&browser.get(&format!("/search?q={q}")), "location").as_deref(), Some(wanted), "{q}");
    }
}
