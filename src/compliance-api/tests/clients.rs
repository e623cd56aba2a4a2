//! The clients in docs/clients and the steps of docs/COMPLIANCE_API.md, run as they stand there against the real binary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test tells of a failure by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_compliance-api");

struct Server {
    child: Child,
    url: String,
    dir: TempDir,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!("listen = \"127.0.0.1:0\"\nstate = \"{}\"\n", dir.path().join("state").display());
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--config").arg(dir.path().join("config.toml"));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("address=") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the server did not start");
        }
        let address = line.split("address=").nth(1).unwrap().trim().to_owned();
        // Somebody has to read on, or the server would wait for its log.
        thread::spawn(move || log.lines().map_while(Result::ok).for_each(|line| eprintln!("server: {line}")));
        Self { child, url: format!("http://{address}"), dir }
    }

    fn token(&self, args: &[&str]) -> String {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(self.dir.path().join("config.toml")).args(["token", "create"]).args(args);
        text(&command.output().unwrap()).trim().to_owned()
    }

    /// Runs a client with this token.
    fn run(&self, client: &str, token: &str, args: &[&str]) -> Output {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/clients").join(client);
        let mut command = Command::new(path);
        command.env("COMPLIANCE_API", &self.url).env("COMPLIANCE_TOKEN", token).args(args).output().unwrap()
    }

    /// Runs shell lines in the server's directory.
    fn shell(&self, lines: &str, token: &str) -> Output {
        let mut command = Command::new("sh");
        command.args(["-eu", "-c", lines]).current_dir(self.dir.path());
        command.env("COMPLIANCE_API", &self.url).env("COMPLIANCE_TOKEN", token).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn text(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

/// What an application posts by one client, an auditor reads by the same.
fn an_application_posts_and_an_auditor_reads(client: &str, login: &[&str], again: &[&str]) {
    let server = Server::start();
    let portal = server.token(&["--role", "client", "--name", "portal", "--type", "app.authentication"]);
    let auditor = server.token(&["--role", "auditor", "--name", "auditor"]);
    let first = json(&server.run(client, &portal, login));
    assert_eq!((first["accepted"].as_u64(), first["stored"].as_u64()), (Some(1), Some(1)));
    assert_eq!(first["receipt"]["seq"], 1);
    let second = json(&server.run(client, &portal, again));
    assert_eq!(second["receipt"]["seq"], 2);
    // The same again is stored once; other bytes under its id are refused, with what would work.
    let twice = json(&server.run(client, &portal, again));
    assert_eq!((twice["accepted"].as_u64(), twice["stored"].as_u64()), (Some(1), Some(0)));
    let other: Vec<&str> = again.iter().map(|word| if *word == "u-1028" { "u-9" } else { word }).collect();
    let conflict = server.run(client, &portal, &other);
    assert!(!conflict.status.success());
    let said = format!("{}{}", String::from_utf8_lossy(&conflict.stdout), String::from_utf8_lossy(&conflict.stderr));
    assert!(said.contains("another type, time or data is stored under this id"), "{said}");
    let one = json(&server.run(client, &auditor, &["requirement", "164.312(d)"]));
    let row = |name: &str| {
        let rows = one["evidence"].as_array().unwrap();
        rows.iter().find(|r| r["types"][0] == name).unwrap().clone()
    };
    assert_eq!((one["status"].as_str(), one["clients"].as_u64()), (Some("direct"), Some(1)));
    let app = row("app.authentication");
    assert_eq!((app["artifacts"].as_u64(), app["sources"][0]["name"].as_str()), (Some(2), Some("portal")));
    assert!(text(&server.run(client, &auditor, &["requirements"])).contains("164.312(a)(2)(i)"));
    let all = text(&server.run(client, &auditor, &["artifacts", "requirement=164.312(d)", "client=portal"]));
    let users: Vec<Value> =
        all.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["data"]["user"].clone()).collect();
    assert_eq!(users, ["u-1027", "u-1028"]);
    // Who may not read is told so.
    let refused = server.run(client, &portal, &["requirements"]);
    assert!(!refused.status.success());
}

#[test]
fn the_client_in_python_posts_logins_and_reads_requirements() {
    let login = ["login", "--client", "portal", "--user", "u-1027", "--result", "accepted"];
    let again = ["login", "--client", "portal", "--user", "u-1028", "--result", "refused", "--id", "login-2"];
    an_application_posts_and_an_auditor_reads("compliance_client.py", &login, &again);
}

#[test]
fn the_client_in_curl_posts_logins_and_reads_requirements() {
    let login = ["login", "portal", "u-1027", "accepted"];
    let again = ["login", "portal", "u-1028", "refused", "login-2"];
    an_application_posts_and_an_auditor_reads("compliance_client.sh", &login, &again);
}

/// The `sh` blocks of a section of the page, as they stand there.
fn steps(section: &str) -> String {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/COMPLIANCE_API.md");
    let page = fs::read_to_string(page).unwrap();
    let part = page.split("\n## ").find(|part| part.starts_with(section)).unwrap();
    let blocks: Vec<&str> = part.split("```sh\n").skip(1).map(|b| b.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty());
    blocks.concat()
}

#[test]
fn the_steps_for_a_review_work_as_they_are_written_down() {
    let server = Server::start();
    let admin = server.token(&["--role", "admin", "--name", "admin"]);
    let said = text(&server.shell(&steps("Reviews"), &admin));
    assert!(said.contains("\"stored\":1"), "{said}");
    let one = server.run(
        "compliance_client.py",
        &admin,
        &["requirement", "164.308(a)(1)(ii)(D)", "--from", "2026-10-01", "--to", "2026-11-01"],
    );
    let one = json(&one);
    assert_eq!(one["status"], "direct");
    assert_eq!(one["evidence"][0]["reviewed"]["reviews"][0]["person"], "alice");
    assert_eq!(one["evidence"][0]["reviewed"]["not_reviewed"], Value::Array(Vec::new()));
    // The month after is nobody's yet.
    let next = json(&server.run(
        "compliance_client.py",
        &admin,
        &["requirement", "164.308(a)(1)(ii)(D)", "--from", "2026-11-01"],
    ));
    assert_eq!(next["status"], "none");
}

#[test]
fn the_steps_for_a_review_work_as_the_page_of_a_review_shows_them() {
    let server = Server::start();
    let admin = server.token(&["--role", "admin", "--name", "admin"]);
    // Alice's key is registered by the steps above.
    text(&server.shell(&steps("Reviews"), &admin));
    let page = text(&server.shell(
        "curl -sS -o /dev/null -D head --data-urlencode token=\"$COMPLIANCE_TOKEN\" \"$COMPLIANCE_API/sign-in\"
         cookie=$(sed -n 's/^set-cookie: \\([^;]*\\).*/\\1/Ip' head)
         curl -sS --fail -H \"Cookie: $cookie\" \"$COMPLIANCE_API/review?from=2026-09-01&to=2026-09-15\"",
        &admin,
    ));
    let shown = page.split("<pre class=\"bytes\"").nth(1).and_then(|rest| rest.split_once('>')).unwrap().1;
    let shown = shown.split("</pre>").next().unwrap();
    let shown = shown.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let own = shown.replace("YOUR-NAME", "alice").replace("~/.ssh/id_ed25519", "id_ed25519");
    let said = text(&server.shell(&format!("rm -f review.json.sig\n{own}"), &admin));
    assert!(said.contains("\"stored\":1"), "{said}");
    let asked = ["requirement", "164.308(a)(1)(ii)(D)", "--from", "2026-09-01", "--to", "2026-09-15"];
    let one = json(&server.run("compliance_client.py", &admin, &asked));
    assert_eq!(one["evidence"][0]["reviewed"]["not_reviewed"], Value::Array(Vec::new()), "{one}");
}

#[test]
fn the_steps_for_verifying_a_clients_artifacts_work_as_they_are_written_down() {
    let server = Server::start();
    let portal = server.token(&["--role", "client", "--name", "portal"]);
    for user in ["u-1", "u-2", "u-3"] {
        text(&server.run("compliance_client.sh", &portal, &["login", "portal", user, "accepted"]));
    }
    let auditor = server.token(&["--role", "auditor", "--name", "auditor"]);
    let said = text(&server.shell(&steps("Verifying"), &auditor));
    assert!(said.contains("3 artifacts verified"), "{said}");
}
