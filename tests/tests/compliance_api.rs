//! The compliance API's package: it serves as soon as it is installed, root's commands leave the database the server's,
//! and neither removal nor purge takes the evidence.

use std::time::Duration;

use instance_tests::{Instance, built_compliance_api, eventually, on_each_release};

const HERE: &str = "http://127.0.0.1:8448";
const SOON: Duration = Duration::from_secs(10);
const STATE: &str = "/var/lib/compliance-api";

/// An instance on which the package was just installed.
fn installed(release: instance_tests::Release) -> Instance {
    let instance = Instance::boot_bare(release);
    instance.install(&built_compliance_api()).expect_ok();
    serves(&instance);
    instance
}

fn serves(instance: &Instance) {
    eventually("it serves", SOON, || instance.run(&format!("curl -fsS {HERE}/healthz")).ok());
}

/// Standing of an answer to a request with this token.
fn status(instance: &Instance, token: &str, path: &str) -> String {
    instance.sh(&format!("curl -sS -o /dev/null -w '%{{http_code}}' -H 'Authorization: Bearer {token}' {HERE}{path}"))
}

on_each_release! {
    fn the_server_is_up_once_installed_and_has_little_to_lose(release) {
        let instance = installed(release);
        assert_eq!(instance.sh("systemctl is-enabled compliance-api"), "enabled");
        assert_eq!(instance.sh(&format!("stat -c '%U %a' {STATE}")), "_compliance-api 700");
        assert_eq!(instance.sh("dpkg -V compliance-api"), "", "what lies on disk is what was packed");
        let report = instance.sh("systemd-analyze security compliance-api --no-pager | tail -n 1");
        let exposure: f64 = report.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        assert!(exposure <= 2.0, "{report}");
        assert_eq!(instance.sh("ss -Hltn 'sport = :8448' | awk '{print $4}'"), "127.0.0.1:8448", "loopback alone");
    }

    fn a_token_made_by_root_beside_the_server_works_and_ends(release) {
        let instance = installed(release);
        let token = instance.sh("compliance-api token create --role auditor --name ann | grep -o 'ca_auditor_[A-Za-z0-9_-]*'");
        assert_eq!(status(&instance, &token, "/v1/hosts"), "200");
        assert_eq!(status(&instance, "ca_auditor_wrong", "/v1/hosts"), "401");
        assert_eq!(instance.sh(&format!("find {STATE} ! -user _compliance-api")), "", "the database stays the server's");
        assert!(!instance.run(&format!("grep -r {token} {STATE}")).ok(), "a token is kept hashed");
        // Also with the server down, when root is the first to open the database.
        instance.sh("systemctl stop compliance-api");
        let other = instance.sh("compliance-api token create --role auditor --name eve | grep -o 'ca_auditor_[A-Za-z0-9_-]*'");
        instance.sh("systemctl start compliance-api");
        serves(&instance);
        assert_eq!(status(&instance, &other, "/v1/hosts"), "200");
        let list = instance.sh("compliance-api token list");
        let id = list.lines().find(|line| line.contains("ann")).and_then(|line| line.split_whitespace().next()).unwrap();
        instance.sh(&format!("compliance-api token revoke {id}"));
        assert_eq!(status(&instance, &token, "/v1/hosts"), "401");
        assert_eq!(status(&instance, &other, "/v1/hosts"), "200");
    }

    fn a_server_killed_comes_back_and_removal_and_purge_keep_the_evidence(release) {
        let instance = installed(release);
        let key = instance.sh(&format!("curl -fsS {HERE}/v1/server | jq -r .public_key"));
        instance.sh("systemctl kill -s KILL compliance-api");
        serves(&instance);
        instance.install(&built_compliance_api()).expect_ok();
        serves(&instance);
        instance.sh("dpkg --remove compliance-api");
        assert!(!instance.run(&format!("curl -fsS {HERE}/healthz")).ok());
        let said = instance.sh("dpkg --purge compliance-api 2>&1");
        assert!(said.contains(STATE), "{said}");
        assert!(!instance.exists("/etc/compliance-api"));
        instance.install(&built_compliance_api()).expect_ok();
        serves(&instance);
        assert_eq!(instance.sh(&format!("curl -fsS {HERE}/v1/server | jq -r .public_key")), key);
    }
}
