use super::*;
use crate::sshd::{key_files::KeyFiles, scan::Files};

fn exempt(names: &[(&str, &[&str])]) -> Plan {
    let patterns = |list: &[&str]| KeyFiles {
        usual: list.iter().map(|pattern| (*pattern).to_owned()).collect(),
        in_blocks: Vec::new(),
    };
    let files = names.iter().map(|(name, list)| (name.parse().expect("a name"), patterns(list))).collect();
    Plan { files, penalty_exempt: None }
}

#[test]
fn the_drop_in_names_the_store_first_and_last() {
    let text = content(&exempt(&[("breakglass", &[".ssh/authorized_keys", "/etc/keys/%u"])])).expect("a text");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "AuthorizedKeysFile /run/lockdownd/keys/%u",
            "Match User breakglass",
            "AuthorizedKeysFile .ssh/authorized_keys /etc/keys/%u",
            "Match all",
            "AuthorizedKeysFile /run/lockdownd/keys/%u",
        ]
    );
    let none = content(&exempt(&[("breakglass", &[])])).expect("a text");
    assert!(none.contains("    AuthorizedKeysFile none\n"));
}

#[test]
fn addresses_that_are_spared_are_added_to_those_of_sshds_own_configuration() {
    let ours: Vec<Cidr> = ["10.0.0.5", "2001:db8::/32"].map(|range| range.parse().expect("a range")).into();
    for (theirs, all) in [
        ("none", "10.0.0.5/32,2001:db8::/32"),
        ("", "10.0.0.5/32,2001:db8::/32"),
        ("192.0.2.*,203.0.113.7", "192.0.2.*,203.0.113.7,10.0.0.5/32,2001:db8::/32"),
    ] {
        let plan = Plan { penalty_exempt: Some(united(theirs, &ours)), ..exempt(&[("breakglass", &["x"])]) };
        let text = content(&plan).expect("a text");
        let line = format!("\nPerSourcePenaltyExemptList {all}\nMatch User breakglass\n");
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn an_exempt_name_that_would_match_others_is_refused() {
    for name in ["*", "a*", "fr?nk", "!frank", "frank,anna", "frank@host", "a#b", "a=b", "\"a\"", "a\\b", "ü"] {
        let error = content(&exempt(&[(name, &["x"])])).expect_err(name);
        assert!(matches!(error, DropInError::OddAccount(_)), "{error}");
    }
    for pattern in ["a\"b", "a\\b", "#a", "a\nMatch all"] {
        let error = content(&exempt(&[("breakglass", &[pattern])])).expect_err(pattern);
        assert!(matches!(error, DropInError::OddKeyFile { .. }), "{error}");
    }
}

/// The order in a configuration of these files, the drop-in among them.
fn order(files: &[(&str, &str)]) -> Result<(), DropInError> {
    struct Given<'a>(&'a [(&'a str, &'a str)]);
    impl Files for Given<'_> {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let found = self.0.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
        fn glob(&self, pattern: &str) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
            let mut found: Vec<_> = self.0.iter().map(|(name, _)| PathBuf::from(name)).collect();
            found.retain(|path| crate::sshd::scan::path_matches(pattern, path));
            found.sort();
            Ok((found, Vec::new()))
        }
    }
    let marker = Some(b"AuthorizedKeysFile /run/lockdownd/keys/%u\n".to_vec());
    let overlay = Overlay { base: Given(files), path: PATH.into(), content: marker };
    judge_order(&scan(&overlay, Path::new(MAIN)), Path::new(MAIN))
}

const MAIN: &str = "/etc/ssh/sshd_config";

#[test]
fn the_drop_in_is_read_first_or_the_line_in_its_way_is_named() {
    assert!(
        order(&[(MAIN, "Port 22\nInclude /etc/ssh/sshd_config.d/*.conf\nAuthorizedKeysFile x\nMatch all\n")]).is_ok()
    );
    assert!(
        order(&[
            (MAIN, "Include sshd_config.d/*.conf\n"),
            ("/etc/ssh/sshd_config.d/50-x.conf", "AuthorizedKeysFile x")
        ])
        .is_ok()
    );

    let error = order(&[(MAIN, "Port 22\n")]).expect_err("not included");
    assert!(error.to_string().contains("add the line `Include /etc/ssh/sshd_config.d/*.conf` at its top"), "{error}");

    let error = order(&[(MAIN, "AuthorizedKeysFile x\nInclude /etc/ssh/sshd_config.d/*.conf\n")]).expect_err("late");
    assert!(error.to_string().starts_with("/etc/ssh/sshd_config:1 comes before"), "{error}");

    let error = order(&[(MAIN, "Match User x\nInclude /etc/ssh/sshd_config.d/*.conf\n")]).expect_err("in a block");
    assert!(matches!(error, DropInError::NotFirst { .. }), "{error}");

    let main = (MAIN, "Include /etc/ssh/sshd_config.d/*.conf\n");
    let early = ("/etc/ssh/sshd_config.d/+0.conf", "\nMatch User x\nAuthorizedKeysFile x\n");
    let error = order(&[main, early]).expect_err("overtaken");
    assert!(error.to_string().starts_with("/etc/ssh/sshd_config.d/+0.conf:3 is read before"), "{error}");

    assert!(matches!(order(&[(MAIN, "Banner \"x\n")]), Err(DropInError::Unreadable(_))));
}
