//! The examples of docs/WITHOUT_CHEF.md, run as they stand there: cloud-init's user data by cloud-init's own code, the
//! playbook by Ansible, on the configuration of a real instance.

use std::fs;
use std::path::Path;
use std::time::Duration;

use instance_tests::{House, Release, eventually};

/// What the daemon may take to act on a reload, which Debian 12 does not wait for.
const SOON: Duration = Duration::from_secs(30);

/// The code under a heading of the page.
fn example(heading: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/WITHOUT_CHEF.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let part = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading}"));
    part.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example").to_owned()
}

/// What cloud-init does with user data, by its own code: the schema, write_files, and the script that runcmd becomes.
const CLOUD_INIT: &str = r#"
cloud-init schema --config-file user-data
/usr/bin/python3 - <<'END'
from cloudinit import util
from cloudinit.config import cc_write_files
config = util.load_yaml(util.load_file("user-data"))
cc_write_files.write_files("write_files", config["write_files"], "root:root")
util.write_file("./runcmd", util.shellify(config["runcmd"]), 0o700)
END
# The package is installed already, and there is nowhere to fetch it from.
for program in curl apt-get sha256sum; do
    rm -f "/usr/bin/$program"
    printf '#!/bin/sh\necho "$0 $*" >>fetched\n' >"/usr/bin/$program"
    chmod 755 "/usr/bin/$program"
done
./runcmd
"#;

#[test]
fn the_user_data_on_the_page_puts_people_in_force_and_a_mistake_in_it_nobody() {
    let house = House::observing(Release::Trixie);
    let user_data = example("cloud-init");
    let at = house.scratch().join("beside");
    fs::create_dir_all(&at).expect("a directory");
    fs::write(at.join("user-data"), user_data.replace("exempt = [", "exmept = [")).expect("written");
    let before = house.sh("sha256sum /etc/lockdownd/config.toml; ls /etc/lockdownd/conf.d");
    let refused = house.run_beside(CLOUD_INIT);
    assert!(refused.status == 78 && refused.stdout.contains("config.toml:7:1: unknown key \"exmept\""), "{refused}");
    assert_eq!(house.sh("sha256sum /etc/lockdownd/config.toml; ls /etc/lockdownd/conf.d"), before);

    fs::write(at.join("user-data"), user_data).expect("written");
    house.run_beside(CLOUD_INIT).expect_ok();
    eventually("it is in force", SOON, || house.ctl_json("status")["stack"] == "web");
    assert!(house.ctl("people").stdout.contains("/etc/lockdownd/conf.d/people.toml:2"), "{}", house.ctl("people"));
    let fetched = fs::read_to_string(at.join("fetched")).expect("written");
    assert!(fetched.contains("sha256sum -c") && fetched.contains("apt-get install -y /run/lockdownd.deb"), "{fetched}");
}

#[test]
fn the_playbook_on_the_page_changes_what_it_should_once_and_is_refused_with_a_mistake_in_it() {
    let house = House::observing(Release::Bookworm);
    let playbook = example("Ansible");
    let at = house.scratch().join("beside");
    fs::create_dir_all(&at).expect("a directory");
    let play = |playbook: &str| {
        fs::write(at.join("play.yml"), playbook).expect("written");
        house.run_beside("HOME=$PWD ANSIBLE_NOCOLOR=1 ansible-playbook -i localhost, -c local play.yml")
    };
    let first = play(&playbook);
    assert!(first.ok() && first.stdout.contains("RUNNING HANDLER [Reload lockdownd]"), "{first}");
    eventually("it is in force", SOON, || house.ctl_json("status")["stack"] == "web");
    assert!(house.ctl("people").stdout.contains("/etc/lockdownd/conf.d/people.toml:2"), "{}", house.ctl("people"));
    let again = play(&playbook);
    assert!(again.ok() && again.stdout.contains("changed=0"), "{again}");

    // Hostile values are data, mistakes are refused, and both in the daemon's words.
    let before = house.sh("cd /etc/lockdownd; sha256sum config.toml conf.d/*.toml");
    let mistakes = [
        ("reason: INC-42", r#"reason: "a\"\n[grants]\nself = true""#, "has control characters; write it in one line"),
        ("accounts: [ubuntu]", "accounts: [breakglass]", "which is exempt and takes no grants"),
        ("2026-12-01T18:00:00Z", "tomorrow", "is no RFC 3339 time in UTC"),
    ];
    let refused = play(&mistakes.iter().fold(playbook.clone(), |play, (from, to, _)| play.replace(from, to)));
    assert!(!refused.ok() && mistakes.iter().all(|(_, _, told)| refused.stdout.contains(told)), "{refused}");
    assert_eq!(house.sh("cd /etc/lockdownd; sha256sum config.toml conf.d/*.toml"), before);
    // Both files at once, where neither could go first.
    let both = playbook
        .replace("[\"breakglass\"]", "[\"breakglass\", \"ubuntu\"]")
        .replace("accounts: [ubuntu]", "accounts: [frank]");
    let both = both.replace("account: ubuntu", "account: frank");
    let done = play(&both);
    assert!(done.ok(), "{done}");
    eventually("ubuntu is exempt", SOON, || house.ctl_json("status")["exempt"].to_string().contains("ubuntu"));
}
