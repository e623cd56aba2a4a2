use std::{collections::BTreeMap, io, path::PathBuf};

use super::*;

/// Files by name; globs are matched against the names.
#[derive(Default)]
struct Given(BTreeMap<PathBuf, Vec<u8>>);

impl Given {
    fn new(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect())
    }
}

impl Files for Given {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
    fn glob(&self, pattern: &str) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let found = self.0.keys().filter(|path| path_matches(pattern, path)).cloned().collect();
        Ok((found, Path::new(pattern).parent().map(Path::to_owned).into_iter().collect()))
    }
}

const MAIN: &str = "/etc/ssh/sshd_config";

fn scanned(files: &[(&str, &str)]) -> Scan {
    scan(&Given::new(files), Path::new(MAIN))
}

#[test]
fn key_files_are_found_wherever_they_are_named() {
    let scan = scanned(&[
        (
            MAIN,
            "Include conf.d/*.conf\nAuthorizedKeysFile .ssh/a /etc/keys/%u\nMatch User x\n authorizedkeysfile=\"b c\"\n",
        ),
        ("/etc/ssh/conf.d/1.conf", "Match Address 10.0.0.0/8\nAuthorizedKeysFile none %h/d\n"),
    ]);
    let expected = [".ssh/a", ".ssh/authorized_keys", ".ssh/authorized_keys2", "%h/d", "/etc/keys/%u", "b c"];
    assert_eq!(scan.key_file_patterns(), expected.map(str::to_owned).into());
    assert!(scan.problems.is_empty(), "{:?}", scan.problems);
    assert!(scan.dirs.contains(Path::new("/etc/ssh/conf.d")));
    assert_eq!(scan.files.len(), 2);
}

#[test]
fn a_match_in_an_included_file_ends_with_that_file() {
    let scan = scanned(&[
        (MAIN, "Include conf.d/*.conf\nUsePAM yes\nMatch User x\nInclude in.conf\nBanner y\n"),
        ("/etc/ssh/conf.d/1.conf", "Match Group g\nBanner g\n"),
        ("/etc/ssh/conf.d/2.conf", "Banner two\n"),
        ("/etc/ssh/in.conf", "Banner a\nMatch Host h Address=1.2.3.4\nBanner b\n"),
    ]);
    let blocks = |banner: &str| {
        let setting = scan.of("banner").find(|setting| setting.args == [banner]).expect("a banner");
        setting.blocks.iter().map(|block| scan.blocks[*block].criteria[0].name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(blocks("g"), ["group"]);
    assert!(blocks("two").is_empty());
    assert!(scan.of("usepam").all(|setting| setting.blocks.is_empty()));
    assert_eq!(blocks("a"), ["user"]);
    assert_eq!(blocks("b"), ["user", "host"]);
    assert_eq!(blocks("y"), ["user"]);
    assert_eq!(scan.blocks[2].criteria[1], Criterion { name: "address".into(), value: "1.2.3.4".into() });
}

#[test]
fn settings_come_in_the_order_in_which_sshd_reads_them() {
    let scan = scanned(&[
        (MAIN, "Port 1\nInclude /etc/ssh/d/b /etc/ssh/d/a\nPort 4\n"),
        ("/etc/ssh/d/a", "Port 3\n"),
        ("/etc/ssh/d/b", "Port 2\n"),
    ]);
    let ports: Vec<_> = scan.of("port").map(|setting| setting.args[0].clone()).collect();
    assert_eq!(ports, ["1", "2", "3", "4"]);
    assert_eq!(scan.includes[0].settings_before, 1);
    assert_eq!(scan.of("port").nth(2).expect("a port").place.to_string(), "/etc/ssh/d/a:1");
}

#[test]
fn a_file_that_includes_itself_ends_as_a_problem() {
    let scan = scanned(&[(MAIN, "Include /etc/ssh/sshd_config\nInclude /etc/ssh/sshd_config\n")]);
    assert!(!scan.problems.is_empty() && scan.problems.len() <= 2 * MAX_FILES);
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    let scan = scanned(&[(MAIN, "Port 22\nBanner \"open\n")]);
    assert_eq!(scan.problems[0].to_string(), "/etc/ssh/sshd_config:2: a quote is not closed");
    let none = scanned(&[]);
    assert!(none.problems[0].to_string().starts_with("/etc/ssh/sshd_config: "));
}

#[test]
fn the_digest_tells_every_change_and_nothing_else() {
    let base = scanned(&[(MAIN, "Include d/*\n"), ("/etc/ssh/d/a", "x y\n")]).digest;
    assert_eq!(base, scanned(&[(MAIN, "Include d/*\n"), ("/etc/ssh/d/a", "x y\n"), ("/other", "z")]).digest);
    for changed in [
        &[(MAIN, "Include d/*\n"), ("/etc/ssh/d/a", "x z\n")][..],
        &[(MAIN, "Include d/*\n"), ("/etc/ssh/d/b", "x y\n")],
        &[(MAIN, "Include d/*\n"), ("/etc/ssh/d/a", "x y\n"), ("/etc/ssh/d/b", "")],
        &[(MAIN, "Include d/*\n")],
    ] {
        assert_ne!(base, scanned(changed).digest);
    }
}

#[test]
fn an_overlay_puts_a_file_in_and_takes_it_out() {
    let base = || Given::new(&[(MAIN, "Include d/*.conf\n"), ("/etc/ssh/d/1.conf", "Port 1\n")]);
    let ports = |files: &dyn Files| {
        scan(files, Path::new(MAIN)).of("port").map(|s| s.args[0].clone()).collect::<Vec<_>>().concat()
    };
    let with = |path: &str, content: Option<&str>| {
        ports(&Overlay { base: base(), path: path.into(), content: content.map(|text| text.as_bytes().to_vec()) })
    };
    assert_eq!(with("/etc/ssh/d/0.conf", Some("Port 0\n")), "01");
    assert_eq!(with("/etc/ssh/d/1.conf", None), "");
    assert_eq!(with("/etc/ssh/d/1.conf", Some("Port 9\n")), "9");
    assert_eq!(with("/etc/ssh/d/0.txt", Some("Port 0\n")), "1");
}

#[test]
fn key_files_are_expanded_for_an_account() {
    let at = |pattern: &str| expand(pattern, "frank", Path::new("/home/f"), 1000).map(|key| (key.path, key.is_glob));
    for (pattern, path, is_glob) in [
        (".ssh/authorized_keys", "/home/f/.ssh/authorized_keys", false),
        ("%h/.keys", "/home/f/.keys", false),
        ("/etc/keys/%u.%U", "/etc/keys/frank.1000", false),
        ("/etc/100%%/%u", "/etc/100%/frank", false),
        (".ssh/keys.d/*", "/home/f/.ssh/keys.d/*", true),
    ] {
        assert_eq!(at(pattern), Some((PathBuf::from(path), is_glob)), "{pattern}");
    }
    for pattern in ["none", "NONE", "", "%x", "50%"] {
        assert_eq!(at(pattern), None, "{pattern}");
    }
}
