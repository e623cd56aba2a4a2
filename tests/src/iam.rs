//! AWS's IAM in the network of a stack, as moto has it: it checks signatures and policies of everybody but the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::client::Key;
use crate::company::bare;
use crate::host::{eventually, finish_within};
use crate::net::HERE;
use crate::stack::Stack;

/// Where it listens.
const PORT: u16 = 5000;
/// moto's own account.
const ACCOUNT: &str = "123456789012";
/// Who may do all.
const ADMIN: &str =
    "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x";
/// What it may take to answer after it was started, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// What a request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// IAM. It ends with this, or with the stack.
#[derive(Debug)]
pub struct Iam<'a> {
    stack: &'a Stack,
    child: Child,
}

/// moto's server, as `tests/iam install` has it.
fn program() -> PathBuf {
    let cache = std::env::var_os("LOCKDOWND_TESTS_CACHE").unwrap_or_else(|| "/var/cache/lockdownd-tests".into());
    let kept = Path::new(&cache).join("iam-venv/bin/moto_server");
    let named = std::env::var_os("MOTO_SERVER").map_or(kept, PathBuf::from);
    assert!(named.exists(), "{} is missing: run `tests/iam install` first", named.display());
    named
}

/// What is in this element.
fn within<'a>(text: &'a str, element: &str) -> &'a str {
    let after = text.split_once(&format!("<{element}>")).unwrap_or_else(|| panic!("no {element} in {text}")).1;
    after.split('<').next().expect("text has a beginning")
}

impl<'a> Iam<'a> {
    /// Starts it.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(stack: &'a Stack) -> Self {
        let mut command = stack.in_net();
        command.arg(program()).args(["-H", HERE, "-p", &PORT.to_string()]);
        command.env("INITIAL_NO_AUTH_ACTION_COUNT", "0");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let iam = Self { stack, child: child.unwrap_or_else(|e| panic!("cannot start moto: {e}")) };
        eventually("moto answers", SOON, || iam.ask(&["/moto-api/data.json"]).is_some());
        iam
    }

    fn ask(&self, args: &[&str]) -> Option<String> {
        let mut command = self.stack.in_net();
        command.args(["curl", "-sS", "--fail-with-body", "--noproxy", "*"]);
        command.arg(format!("http://{HERE}:{PORT}{}", args[0])).args(&args[1..]);
        let output = finish_within(REQUEST, command, &format!("curl {}", args.join(" ")), b"");
        output.ok().then_some(output.stdout)
    }

    /// Does something as somebody who may do all.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn admin(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        let everybody_may = |count: &str| {
            self.ask(&["/moto-api/reset-auth", "-H", "Content-Type: text/plain", "-d", count]).expect("moto does it");
        };
        everybody_may("1000000");
        let form = [("Action", action), ("Version", "2010-05-08")].into_iter().chain(parameters.iter().copied());
        let form: Vec<String> = form.map(|(name, value)| format!("{name}={value}")).collect();
        let mut args = vec!["/", "-H"];
        let admin = format!("Authorization: {ADMIN}");
        args.push(&admin);
        args.extend(form.iter().flat_map(|pair| ["--data-urlencode", pair.as_str()]));
        let answer = self.ask(&args).unwrap_or_else(|| panic!("{action} is refused: {parameters:?}"));
        everybody_may("0");
        answer
    }

    /// Makes a user of a group, with this key; returns their `UserId`.
    #[must_use]
    #[track_caller]
    pub fn user(&self, name: &str, group: &str, key: &Key) -> String {
        let made = self.admin("CreateUser", &[("UserName", name)]);
        self.has_key(name, key);
        self.admin("AddUserToGroup", &[("UserName", name), ("GroupName", group)]);
        within(&made, "UserId").to_owned()
    }

    /// Gives a user this key instead of the one before.
    #[track_caller]
    pub fn has_key(&self, name: &str, key: &Key) {
        let tag = [("UserName", name), ("Tags.member.1.Key", "ssh-key-1"), ("Tags.member.1.Value", &bare(key))];
        self.admin("TagUser", &tag);
    }

    /// Deletes a user.
    #[track_caller]
    pub fn delete(&self, name: &str, group: &str) {
        self.admin("RemoveUserFromGroup", &[("UserName", name), ("GroupName", group)]);
        self.admin("DeleteUser", &[("UserName", name)]);
    }

    /// Makes a user with the policy that ships; returns a file of profiles with their credentials.
    ///
    /// # Panics
    /// When the policy cannot be read.
    #[must_use]
    pub fn reader(&self) -> String {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/aws/policy.json");
        let policy = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        // moto looks at actions alone.
        let policy = policy.replace("arn:aws:iam::*:group/*", "*").replace("arn:aws:iam::*:user/*", "*");
        self.admin("CreateUser", &[("UserName", "reader")]);
        self.admin(
            "PutUserPolicy",
            &[("UserName", "reader"), ("PolicyName", "lockdown-iam"), ("PolicyDocument", &policy)],
        );
        let made = self.admin("CreateAccessKey", &[("UserName", "reader")]);
        let (key, secret) = (within(&made, "AccessKeyId"), within(&made, "SecretAccessKey"));
        format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
    }

    /// The account of AWS.
    #[must_use]
    pub fn account(&self) -> &'static str {
        ACCOUNT
    }

    /// Has an instance reach it, and gives its address there: only within a machine does lockdown-iam ask without TLS.
    #[must_use]
    pub fn reached_from(&self, number: usize) -> String {
        self.stack.hosts[number].sh(&format!(
            "systemd-run -q --unit=iam-forward socat TCP4-LISTEN:{PORT},bind=127.0.0.1,fork,reuseaddr TCP4:{HERE}:{PORT}"
        ));
        format!("http://127.0.0.1:{PORT}")
    }
}

impl Drop for Iam<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
