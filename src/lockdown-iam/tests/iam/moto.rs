//! moto, which checks signatures and policies: tests/iam installs it, and names its server in MOTO_SERVER.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use document::Roster;
use serde_json::{Value, json};
use ureq::Agent;

use crate::{
    office::{Office, made_key, member},
    serving::free_port,
};

/// moto's own account.
const ACCOUNT: &str = "123456789012";
const OTHER: &str = "444455556666";
const POLICY: &str = include_str!("../../../../packaging/aws/policy.json");
const TEMPLATE: &str = include_str!("../../../../packaging/aws/template.json");

/// The policy that ships, for all resources: moto looks at actions alone.
fn policy() -> String {
    let all = POLICY.replace("arn:aws:iam::*:group/*", "*").replace("arn:aws:iam::*:user/*", "*");
    assert!(!all.contains("arn:"));
    all
}

struct Moto {
    child: Child,
    endpoint: String,
    agent: Agent,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The credentials of somebody.
struct Pair(String, String);

impl Moto {
    fn start() -> Self {
        let server = std::env::var_os("MOTO_SERVER").expect("tests/iam runs these");
        let port = free_port();
        let child = Command::new(server)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("INITIAL_NO_AUTH_ACTION_COUNT", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let agent = Agent::config_builder().http_status_as_error(false).build().new_agent();
        let moto = Self { child, endpoint: format!("http://127.0.0.1:{port}"), agent };
        for _ in 0..600 {
            if moto.agent.get(format!("{}/moto-api/data.json", moto.endpoint)).call().is_ok() {
                return moto;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("moto did not come up");
    }

    fn authorisation(&self, actions: &str) {
        let url = format!("{}/moto-api/reset-auth", self.endpoint);
        let answer = self.agent.post(url).header("content-type", "text/plain").send(actions).unwrap();
        assert_eq!(answer.status().as_u16(), 200);
    }

    /// Does something as somebody who may do all, in an account.
    fn admin_of(&self, account: &str, action: &str, parameters: &[(&str, &str)]) -> String {
        self.authorisation("1000000");
        let form = [("Action", action), ("Version", "2010-05-08")].into_iter().chain(parameters.iter().copied());
        let mut answer = self
            .agent
            .post(format!("{}/", self.endpoint))
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x",
            )
            .header("x-moto-account-id", account)
            .send_form(form)
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{action}: {text}");
        self.authorisation("0");
        text
    }

    fn admin(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        self.admin_of(ACCOUNT, action, parameters)
    }

    /// A user in a group, with this key in a tag; returns their id.
    fn user(&self, name: &str, path: &str, group: &str, seed: u8) -> String {
        let made = self.admin("CreateUser", &[("UserName", name), ("Path", path)]);
        let key = made_key(seed);
        let tag = [("UserName", name), ("Tags.member.1.Key", "ssh-key-1"), ("Tags.member.1.Value", key.as_str())];
        self.admin("TagUser", &tag);
        self.admin("AddUserToGroup", &[("UserName", name), ("GroupName", group)]);
        of(&made, "UserId")
    }

    /// A user with this policy, and its credentials.
    fn reader(&self, name: &str, policy: &str) -> Pair {
        self.admin("CreateUser", &[("UserName", name)]);
        self.admin("PutUserPolicy", &[("UserName", name), ("PolicyName", "p"), ("PolicyDocument", policy)]);
        let made = self.admin("CreateAccessKey", &[("UserName", name)]);
        Pair(of(&made, "AccessKeyId"), of(&made, "SecretAccessKey"))
    }

    fn lines(&self, groups: &[&str]) -> String {
        let group =
            |name: &&str| format!("[[account.group]]\nname = \"{name}\"\naccounts = {{ web = [\"ubuntu\"] }}\n");
        let groups: String = groups.iter().map(group).collect();
        format!(
            "[aws]\nendpoint = \"{0}\"\nsts_endpoint = \"{0}\"\nmetadata_endpoint = \"{0}\"\n[[account]]\nid = \"{ACCOUNT}\"\n{groups}",
            self.endpoint
        )
    }
}

/// What is in this element.
fn of(text: &str, element: &str) -> String {
    let begin = text.find(&format!("<{element}>")).unwrap() + element.len() + 2;
    text[begin..begin + text[begin..].find('<').unwrap()].to_owned()
}

fn by_name(roster: &Roster) -> BTreeMap<&str, &document::Member> {
    roster.people.iter().map(|one| (one.name.as_str(), one)).collect()
}

#[test]
fn the_template_gives_what_the_policy_gives() {
    let (policy, template): (Value, Value) =
        (serde_json::from_str(POLICY).unwrap(), serde_json::from_str(TEMPLATE).unwrap());
    let given = &template["Resources"]["Role"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"];
    let actions = |statements: &Value| -> Vec<Value> {
        statements.as_array().unwrap().iter().map(|one| json!([one["Effect"], one["Action"]])).collect()
    };
    assert_eq!(actions(given), actions(&policy["Statement"]));
}

#[test]
#[ignore = "needs moto: tests/iam"]
fn with_the_policy_that_ships_all_calls_are_allowed_and_without_any_of_them_check_names_it() {
    let (moto, office) = (Moto::start(), Office::new(vec![]));
    moto.admin("CreateGroup", &[("GroupName", "dev")]);
    moto.user("frank", "/", "dev", 1);
    let reader = moto.reader("reader", &policy());
    let as_reader = |arguments: &[&str]| office.run_as(arguments, (&reader.0, &reader.1));
    office.configure(&moto.lines(&["dev"]));
    as_reader(&["check"]).with(0).says_not("WRONG").says("ok    123456789012/dev: 1 users");
    as_reader(&["sync"]).with(0).says("+ frank");
    office.run_as(&["sync"], (&reader.0, "another secret")).with(69);
    office.run_as(&["sync"], ("AKIAUNKNOWN", &reader.1)).with(69);
    for action in ["iam:GetGroup", "iam:GetSSHPublicKey", "iam:ListSSHPublicKeys", "iam:ListUserTags"] {
        let less = policy().replace(action, "iam:ListGroups");
        assert_ne!(less, policy());
        moto.admin("PutUserPolicy", &[("UserName", "reader"), ("PolicyName", "p"), ("PolicyDocument", &less)]);
        as_reader(&["check"]).with(1).says(&format!("the permission {action} is missing"));
    }
    as_reader(&["sync"]).with(69);
    moto.admin("PutUserPolicy", &[("UserName", "reader"), ("PolicyName", "p"), ("PolicyDocument", &policy())]);
    as_reader(&["sync"]).with(0);
}

#[test]
#[ignore = "needs moto: tests/iam"]
fn users_come_change_are_renamed_made_again_and_go() {
    let moto = Moto::start();
    let office = Office::new(vec![]);
    for group in ["dev", "ops"] {
        moto.admin("CreateGroup", &[("GroupName", group)]);
    }
    let reader = moto.reader("reader", &policy());
    let lines = moto.lines(&["dev", "ops"]).replacen("[\"ubuntu\"]", "[\"deploy\"]", 1);
    office.configure(&lines);
    let sync = || office.run_as(&["sync"], (&reader.0, &reader.1));
    let odd = "a+b=c,d.@_-";
    let (frank, bob) = (moto.user("frank", "/", "dev", 1), moto.user("bob", "/eu/berlin/", "dev", 2));
    moto.user(odd, "/", "ops", 3);
    sync().with(0).says("+ frank").says("+ bob").says("+ a+b-c-d.@_-");
    let first = office.proposed().unwrap();
    assert_eq!(by_name(&first)["a+b-c-d.@_-"].iam.as_ref().unwrap().name.as_str(), odd);
    assert_eq!(by_name(&first)["bob"].keys, [made_key(2)].into());
    office.publish(office.roster(2, first.people));
    sync().with(0).says("the roster is as IAM has it");
    // Another key, another group, another name.
    let other = made_key(12);
    moto.admin(
        "TagUser",
        &[("UserName", "bob"), ("Tags.member.1.Key", "ssh-key-1"), ("Tags.member.1.Value", other.as_str())],
    );
    moto.admin("AddUserToGroup", &[("UserName", "frank"), ("GroupName", "ops")]);
    moto.admin("UpdateUser", &[("UserName", "frank"), ("NewUserName", "franz")]);
    sync().with(0).says("~ bob").says("~ frank").says_not("held: ");
    let second = office.proposed().unwrap();
    let people = by_name(&second);
    assert_eq!(people["bob"].keys, [other].into());
    assert_eq!(
        (people["frank"].iam.as_ref().unwrap().id.as_str(), people["frank"].iam.as_ref().unwrap().name.as_str()),
        (frank.as_str(), "franz")
    );
    assert_eq!(people["frank"].accounts.values().next().unwrap().len(), 2);
    office.publish(office.roster(3, second.people.clone()));
    sync().with(0).says("the roster is as IAM has it");
    office.many_runs_later();
    // Deleted, and made again under the same name.
    moto.admin("RemoveUserFromGroup", &[("UserName", "bob"), ("GroupName", "dev")]);
    moto.admin("DeleteUser", &[("UserName", "bob")]);
    sync().with(0).says("held: bob").says(&bob).says("is deleted");
    let again = moto.user("bob", "/", "dev", 2);
    sync().with(0).says_not("held: bob");
    assert_eq!(office.held(), ["bob"]);
    let third = office.proposed().unwrap();
    assert_eq!(by_name(&third)["bob"].iam.as_ref().unwrap().id.as_str(), again);
    assert_ne!(again, bob);
}

#[test]
#[ignore = "needs moto: tests/iam"]
fn keys_of_iams_own_store_are_fetched_once() {
    let (moto, office) = (Moto::start(), Office::new(vec![]));
    moto.admin("CreateGroup", &[("GroupName", "dev")]);
    let frank = moto.user("frank", "/", "dev", 1);
    let rsa = office.path("rsa");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "rsa", "-b", "3072", "-N", "", "-f"]).arg(&rsa).status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(office.path("rsa.pub")).unwrap();
    moto.admin("UploadSSHPublicKey", &[("UserName", "frank"), ("SSHPublicKeyBody", public.trim())]);
    let reader = moto.reader("reader", &policy());
    office.configure(&moto.lines(&["dev"]));
    let sync = || office.run_as(&["sync"], (&reader.0, &reader.1)).with(0);
    sync().says("GetSSHPublicKey 1");
    let proposed = office.proposed().unwrap();
    let mut wanted = member("frank", &frank, &[1]);
    wanted.iam.as_mut().unwrap().arn = Some(format!("arn:aws:iam::{ACCOUNT}:user/frank").parse().unwrap());
    wanted.keys.insert(public.split(' ').take(2).collect::<Vec<_>>().join(" ").parse().unwrap());
    assert_eq!(proposed.people, [wanted]);
    sync().says_not("GetSSHPublicKey");
}

#[test]
#[ignore = "needs moto: tests/iam"]
fn another_account_is_read_by_a_role_there() {
    let (moto, office) = (Moto::start(), Office::new(vec![]));
    let role = format!("arn:aws:iam::{OTHER}:role/lockdown-iam");
    moto.admin("CreateGroup", &[("GroupName", "dev")]);
    moto.user("frank", "/", "dev", 1);
    moto.admin_of(OTHER, "CreateGroup", &[("GroupName", "guests")]);
    moto.admin_of(OTHER, "CreateUser", &[("UserName", "gina")]);
    moto.admin_of(OTHER, "AddUserToGroup", &[("UserName", "gina"), ("GroupName", "guests")]);
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{ACCOUNT}:user/reader"}},"Action":"sts:AssumeRole","Condition":{{"StringEquals":{{"sts:ExternalId":"acme"}}}}}}]}}"#
    );
    moto.admin_of(OTHER, "CreateRole", &[("RoleName", "lockdown-iam"), ("AssumeRolePolicyDocument", &trust)]);
    let policy = policy();
    let given = [("RoleName", "lockdown-iam"), ("PolicyName", "p"), ("PolicyDocument", policy.as_str())];
    moto.admin_of(OTHER, "PutRolePolicy", &given);
    let reader = moto.reader("reader", &policy);
    let lines = format!(
        "{}[[account]]\nid = \"{OTHER}\"\nrole = \"{role}\"\nexternal_id = \"acme\"\n[[account.group]]\nname = \"guests\"\naccounts = {{ db = [\"ubuntu\"] }}\n",
        moto.lines(&["dev"])
    );
    office.configure(&lines);
    let run = |arguments: &[&str]| office.run_as(arguments, (&reader.0, &reader.1));
    run(&["check"]).with(1).says("the permission sts:AssumeRole is missing").says("123456789012/dev: 1 users");
    run(&["sync"]).with(69).says(OTHER);
    assert_eq!(office.proposed(), None, "one account that is not read leaves all as it is");
    let more = policy.replace("\"iam:ListUserTags\"", "\"iam:ListUserTags\", \"sts:AssumeRole\"");
    moto.admin("PutUserPolicy", &[("UserName", "reader"), ("PolicyName", "p"), ("PolicyDocument", &more)]);
    run(&["check"]).with(0).says("444455556666/guests: 1 users");
    run(&["sync"]).with(0).says("AssumeRole 1").says("+ gina").says("+ frank");
}

#[test]
#[ignore = "needs moto: tests/iam"]
fn an_instance_gives_the_credentials_of_its_role() {
    let (moto, office) = (Moto::start(), Office::new(vec![]));
    moto.admin("CreateGroup", &[("GroupName", "dev")]);
    moto.user("frank", "/", "dev", 1);
    office.configure(&moto.lines(&["dev"]));
    // Without any in the environment. moto's instance has some that its IAM does not know.
    moto.authorisation("1000000");
    office.run_as(&["check"], ("", "")).with(0).says("credentials: the instance's role default-role");
    office.run_as(&["sync"], ("", "")).with(0).says("+ frank");
    moto.authorisation("0");
    office.run_as(&["sync"], ("", "")).with(69);
}
