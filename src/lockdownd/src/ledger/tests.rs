//! The ledger against crashes at every byte, full disks, other machines and tampering, with the verifier as the oracle.

use std::{fs, time::Instant};

use lockdown_host::identity::Identity;
use record::{Depth, GrantId, Record, Trust, Verdict, Verifier};

use super::*;

mod keeping;
mod put_back;

const DAY: Duration = Duration::from_secs(86_400);

struct Host1 {
    dir: tempfile::TempDir,
    identity: Identity,
    now: Timestamp,
}

impl Host1 {
    fn new() -> Self {
        Self {
            // In memory: thousands of syncs are made here.
            dir: tempfile::tempdir_in("/dev/shm").unwrap(),
            identity: Identity {
                instance: None,
                product: None,
                machine: Some("ab".repeat(16)),
                name: "web-1".parse().unwrap(),
            },
            now: "2026-05-26T12:00:00Z".parse().unwrap(),
        }
    }

    fn paths(&self) -> Paths {
        Paths { state: self.dir.path().join("lib"), run: self.dir.path().join("run") }
    }

    fn try_open(&self) -> Result<Opened, Error> {
        Ledger::open(Opening {
            paths: self.paths(),
            host: self.identity.name.clone(),
            stack: "web".parse().unwrap(),
            identity: &self.identity,
            boot: "00000000-0000-0000-0000-000000000001".to_owned(),
            keeping: Keeping { retain: 10 * DAY, max_size: 1 << 30, drop_oldest: false, acknowledged_first: false },
            now: self.now,
            journal: None,
        })
    }

    fn open(&self) -> Opened {
        self.try_open().unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        files::segments(&self.paths()).unwrap().into_iter().map(|n| self.paths().segment(n)).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        self.files().iter().flat_map(|f| fs::read(f).unwrap()).collect()
    }

    fn reboot(&self) {
        fs::remove_dir_all(self.paths().run).unwrap();
    }
}

fn verify(bytes: &[u8]) -> Verdict {
    let mut verifier = Verifier::new(Depth::Full, Trust::FirstKey);
    bytes.split_inclusive(|b| *b == b'\n').for_each(|line| {
        let _ = verifier.line(line);
    });
    verifier.finish()
}

/// The first and the last record's number, and the last one's hash.
fn assert_clean(host: &Host1) -> (u64, u64, Hash) {
    let verdict = verify(&host.bytes());
    assert!(verdict.is_clean(), "{:?}", verdict.findings);
    (verdict.first, verdict.last, verdict.last_hash)
}

fn append(ledger: &mut Ledger, drafts: Vec<Draft>, now: Timestamp) {
    ledger.append(drafts, now).unwrap();
}

fn sweep(n: u64) -> Vec<Draft> {
    vec![Draft::new(ArtifactType::SweepAttested, format!("sweep {n}")).with("accounts", n)]
}

fn types(host: &Host1) -> Vec<String> {
    let text = String::from_utf8(host.bytes()).unwrap();
    text.lines().map(|l| record::Record::parse(l.as_bytes()).unwrap().type_word().to_owned()).collect()
}

#[test]
fn a_first_start_makes_key_identity_and_a_ledger_that_verifies() {
    let host = Host1::new();
    let mut opened = host.open();
    assert_eq!((opened.set_aside, opened.broke), (None, None));
    opened.ledger.append(sweep(1), host.now).unwrap();
    let (_, last, last_hash) = assert_clean(&host);
    assert_eq!(last, 3);
    assert_eq!(types(&host), ["ledger.segment", "ledger.opened", "sweep.attested"]);
    let durable = super::durable(&host.paths().durable()).unwrap();
    assert_eq!((durable.1, durable.2), (3, last_hash));
    let mode =
        |path: PathBuf| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777;
    assert_eq!(
        (mode(host.paths().key()), mode(host.paths().public_key()), mode(host.files()[0].clone())),
        (0o600, 0o644, 0o640)
    );
}

#[test]
fn a_ledger_goes_on_where_it_was_and_tells_what_was_recorded() {
    let host = Host1::new();
    let grant: GrantId = "g-0123456789abcdef".parse().unwrap();
    let mut first = host.open().ledger;
    let mut created = Draft::new(ArtifactType::GrantCreated, "frank may log in");
    created.grant = Some(grant.clone());
    first.append(vec![created, Draft::new(ArtifactType::DaemonStopped, "stopped")], host.now).unwrap();
    let head = first.head();
    drop(first);
    let opened = host.open();
    assert_eq!(opened.ledger.head(), head);
    assert_eq!(opened.recorded.grants, [(ArtifactType::GrantCreated, grant)].into());
    assert!(opened.recorded.stopped_cleanly);
    assert_clean(&host);
}

#[test]
fn logins_on_record_are_told_by_process_and_for_how_long_that_was_surely_theirs() {
    let host = Host1::new();
    let login = |kind, pid: u32| Draft::new(kind, "somebody logged in").with("pid", pid);
    let began = host.now - jiff::SignedDuration::from_hours(1);
    let mut by_gate = login(ArtifactType::SessionOpened, 7);
    by_gate.session = Some("s-0123456789abcdef".parse().unwrap());
    let found = login(ArtifactType::SessionOpened, 8).with("found", true).with("began_at", began.to_string());
    let over = login(ArtifactType::SessionOpened, 9).with("over", true).with("began_at", began.to_string());
    let noted = login(ArtifactType::EmergencyLogin, 10).with("at", began.to_string());
    let mut ledger = host.open().ledger;
    ledger.append(vec![by_gate.clone(), found, over, noted], host.now).unwrap();
    drop(ledger);
    let told = host.open().recorded.logins;
    assert_eq!(told.iter().map(|login| login.pid).collect::<Vec<_>>(), [7, 8, 9, 10]);
    assert_eq!((&told[0].session, told[0].began), (&by_gate.session, told[0].until));
    assert_eq!((told[1].began, told[1].until), (began, told[0].until));
    assert!([&told[2], &told[3]].into_iter().all(|login| (login.began, login.until) == (began, began)));
}

#[test]
fn a_crash_at_any_byte_of_the_last_write_leaves_a_ledger_that_verifies() {
    let mut host = Host1::new();
    let mut ledger = host.open().ledger;
    ledger.append(sweep(1), host.now).unwrap();
    let (sure, keep) = (ledger.head(), host.bytes().len());
    ledger.append([sweep(2), sweep(3)].concat(), host.now).unwrap();
    drop(ledger);
    let (whole, path) = (host.bytes(), host.files()[0].clone());
    for cut in (keep..=whole.len()).rev() {
        host.reboot();
        host.now += jiff::SignedDuration::from_millis(1);
        fs::write(&path, &whole[..cut]).unwrap();
        let opened = host.open();
        assert_eq!(opened.set_aside, None);
        // Of a record that lacks its newline alone nothing is lost.
        let torn = !whole[..cut].ends_with(b"\n") && whole[cut] != b'\n';
        assert_eq!((opened.broke, opened.torn.is_some()), (None, torn), "cut at {cut}");
        assert!(opened.ledger.head().seq >= sure.seq);
        let (_, last, last_hash) = assert_clean(&host);
        assert_eq!((last, last_hash), (opened.ledger.head().seq, opened.ledger.head().hash));
    }
    let kept = fs::read_dir(host.paths().ledger())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension().unwrap() == "torn")
        .count();
    assert_eq!(kept, whole.len() - keep - 4, "every torn end is kept");
}

#[test]
fn blocks_of_zeros_after_a_power_cut_are_put_away() {
    let host = Host1::new();
    drop(host.open());
    let path = host.files()[0].clone();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [whole.clone(), vec![0; 20_000]].concat()).unwrap();
    let opened = host.open();
    assert!(opened.torn.unwrap().contains("20000 bytes after record 2"));
    assert_eq!(types(&host), ["ledger.segment", "ledger.opened", "ledger.opened"]);
    assert_clean(&host);
}

#[test]
fn a_rotation_cut_short_is_taken_up_again() {
    for junk in [&b""[..], b"{\"boot\":\"00"] {
        let mut host = Host1::new();
        drop(host.open());
        fs::write(host.paths().segment(3), junk).unwrap();
        host.now += jiff::SignedDuration::from_hours(24);
        let mut opened = host.open();
        assert_eq!((opened.broke, opened.torn.is_some()), (None, !junk.is_empty()));
        opened.ledger.append(sweep(1), host.now).unwrap();
        assert_eq!(host.files().len(), 2);
        assert_clean(&host);
    }
}

#[test]
fn an_edited_record_ends_the_ledger_and_a_new_one_names_it() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    (0..5).for_each(|n| append(&mut ledger, sweep(n), host.now));
    let old = ledger.id().clone();
    drop(ledger);
    let path = host.files()[0].clone();
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("sweep 2", "sweep 7")).unwrap();
    fs::write(host.paths().state.join("grants.json"), "{}").unwrap();
    let opened = host.open();
    assert!(opened.broke.unwrap().contains("record 6"));
    assert_eq!(opened.set_aside, None, "it is the same machine: grants stay");
    assert!(host.paths().state.join("grants.json").exists());
    assert_ne!(opened.ledger.id(), &old);
    assert_clean(&host);
    let text = String::from_utf8(host.bytes()).unwrap();
    assert!(text.contains("\"ancestor\":{\"hash\":\"") && text.contains(old.as_str()));
    let aside = fs::read_dir(host.paths().set_aside()).unwrap().next().unwrap().unwrap().path();
    assert!(aside.join("ledger/000000000001.jsonl").exists() && aside.join("signing_key").exists());
}

#[test]
fn an_edited_last_record_is_no_torn_write() {
    let host = Host1::new();
    host.open().ledger.append(sweep(1), host.now).unwrap();
    let path = host.files()[0].clone();
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("sweep 1", "sweep 2")).unwrap();
    assert!(host.open().broke.unwrap().contains("record 3 (line 3): the signature does not hold"));
}

#[test]
fn records_that_were_on_disk_in_this_boot_and_are_gone_end_the_ledger() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    let before = host.bytes();
    ledger.append(sweep(1), host.now).unwrap();
    fs::write(&host.files()[0], before).unwrap();
    assert_eq!(host.open().broke.unwrap(), "the ledger was on disk to record 3, and now ends at record 2");
    assert_clean(&host);
}

#[test]
fn another_machine_voids_the_grants_and_keeps_everything_aside() {
    let mut host = Host1::new();
    let mut ledger = host.open().ledger;
    ledger.append(sweep(1), host.now).unwrap();
    let (old, head) = (ledger.id().clone(), ledger.head());
    fs::write(host.paths().state.join("grants.json"), "{}").unwrap();
    fs::create_dir(host.paths().state.join("quarantine")).unwrap();
    host.identity.machine = Some("cd".repeat(16));
    let opened = host.open();
    let aside = opened.set_aside.unwrap();
    for name in ["ledger", "signing_key", "signing_key.pub", "grants.json", "quarantine", "identity"] {
        assert!(aside.join(name).exists(), "{name}");
    }
    assert!(!host.paths().state.join("grants.json").exists());
    let text = String::from_utf8(host.bytes()).unwrap();
    assert!(
        text.contains(&format!(
            "\"ancestor\":{{\"hash\":\"{}\",\"ledger\":\"{old}\",\"seq\":{}}}",
            head.hash, head.seq
        ))
    );
    assert_clean(&host);
    assert_eq!(host.open().broke, None, "and from then on it is this machine's");
}

#[test]
fn a_crash_anywhere_in_a_succession_is_taken_up_again() {
    // As if the crash came after N of the moves, or after N steps of the new ledger's beginning.
    for steps in 0..9 {
        let mut host = Host1::new();
        let mut ledger = host.open().ledger;
        ledger.append(sweep(1), host.now).unwrap();
        let old = ledger.id().clone();
        fs::write(host.paths().state.join("grants.json"), "{}").unwrap();
        host.identity.machine = Some("cd".repeat(16));
        let (paths, now) = (host.paths(), host.now);
        let last = aside::last_legible(&paths).unwrap();
        let begun = aside::Succession::new(now, "another machine".into(), true, last);
        if steps < 5 {
            files::replace(&paths.succession(), &serde_json::to_vec(&begun).unwrap(), files::Readers::Root).unwrap();
            fs::create_dir_all(paths.set_aside().join(&begun.dir)).unwrap();
            for name in ["ledger", "signing_key", "signing_key.pub", "identity"].iter().take(steps) {
                fs::rename(paths.state.join(name), paths.set_aside().join(&begun.dir).join(name)).unwrap();
            }
        } else {
            let _ = begun.put_away(&paths).unwrap();
            if steps > 5 {
                files::make_dir(&paths.ledger(), 0o750, files::Readers::Shipper).unwrap();
            }
            if steps > 6 {
                let _ = key::make(&paths, "x").unwrap();
            }
            if steps > 7 {
                fs::write(paths.segment(1), "{\"bo").unwrap();
            }
        }
        let opened = host.open();
        let aside = opened.set_aside.unwrap();
        assert!(aside.join("grants.json").exists() && aside.join("ledger/000000000001.jsonl").exists(), "{steps}");
        assert!(String::from_utf8(host.bytes()).unwrap().contains(old.as_str()), "{steps}: the ancestor is named");
        assert_clean(&host);
        assert_eq!(host.open().broke, None);
    }
}

#[test]
fn only_an_ed25519_key_will_do() {
    let host = Host1::new();
    drop(host.open());
    fs::remove_file(host.paths().key()).unwrap();
    for kind in [["-t", "rsa", "-b", "2048"], ["-t", "ecdsa", "-b", "256"]] {
        let _ = fs::remove_file(host.paths().key());
        let made = std::process::Command::new("ssh-keygen")
            .args(kind)
            .args(["-q", "-N", "", "-f"])
            .arg(host.paths().key())
            .status();
        assert!(made.unwrap().success());
        assert!(matches!(host.try_open(), Err(Error::Key { .. })), "{kind:?}");
    }
}

#[test]
fn segments_begin_daily_and_when_full_and_any_of_them_can_be_verified_alone() {
    let mut host = Host1::new();
    let mut ledger = host.open().ledger;
    ledger.segment_bytes = 3000;
    (0..6).for_each(|n| append(&mut ledger, sweep(n), host.now));
    host.now += jiff::SignedDuration::from_hours(24);
    ledger.append(sweep(9), host.now).unwrap();
    let all = host.files();
    assert!(all.len() >= 3, "{all:?}");
    assert_clean(&host);
    for file in &all {
        let mut verifier = Verifier::new(Depth::Full, Trust::FirstKey).partial();
        let bytes = fs::read(file).unwrap();
        assert!(bytes.split_inclusive(|b| *b == b'\n').all(|l| verifier.line(l).1));
        assert!(verifier.finish().is_clean());
    }
    drop(ledger);
    assert_eq!(host.open().broke, None);
}

#[test]
fn pruning_says_so_first_and_leaves_what_verifies() {
    let mut host = Host1::new();
    let mut ledger = host.open().ledger;
    for day in 0..30 {
        ledger.append(sweep(day), host.now).unwrap();
        host.now += jiff::SignedDuration::from_hours(24);
    }
    assert_eq!(ledger.prune(host.now).unwrap(), PRUNE_AT_MOST, "a clock gone wild cannot take all at once");
    while ledger.prune(host.now).unwrap() > 0 {}
    assert_eq!(host.files().len(), 12);
    assert!(assert_clean(&host).0 > 1);
    drop(ledger);
    assert_eq!(host.open().broke, None);
}

#[test]
fn lines_after_gives_every_record_once_across_segments() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    ledger.segment_bytes = 2500;
    (0..20).for_each(|n| append(&mut ledger, sweep(n), host.now));
    let (mut got, mut seq) = (String::new(), 0);
    loop {
        let lines = ledger.view().lines_after(seq, 4000).unwrap();
        if lines.is_empty() {
            break;
        }
        seq += lines.len() as u64;
        got.extend(lines);
    }
    assert_eq!(got.as_bytes(), host.bytes());
    assert_eq!(seq, ledger.head().seq);
}

#[test]
fn a_statement_too_large_for_a_line_goes_out_in_parts() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    let before = ledger.head().seq;
    let draft = Draft::new(ArtifactType::KeyRemoved, "many").with("fingerprints", vec!["SHA256:x".repeat(6); 500]);
    ledger.append(vec![draft], host.now).unwrap();
    assert!(ledger.head().seq > before + 3);
    assert!(String::from_utf8(host.bytes()).unwrap().lines().all(|l| l.len() < record::MAX_LINE));
    assert_clean(&host);
}

#[test]
fn a_draft_that_no_record_can_hold_changes_nothing() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    let (before, head) = (host.bytes(), ledger.head());
    let bad = Draft::new(ArtifactType::Lockdown, "x").with("share", 0.5);
    assert!(matches!(ledger.append([sweep(1), vec![bad]].concat(), host.now), Err(Error::Draft(_))));
    assert_eq!((host.bytes(), ledger.head()), (before, head));
    ledger.append(sweep(1), host.now).unwrap();
    assert_clean(&host);
}

#[test]
fn opening_a_full_segment_again_is_quick() {
    let host = Host1::new();
    let mut ledger = host.open().ledger;
    (0..20).for_each(|n| append(&mut ledger, (0..100).flat_map(|m| sweep(n * 100 + m)).collect(), host.now));
    drop(ledger);
    let begun = Instant::now();
    assert_eq!(host.open().broke, None);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?} for 2000 records", begun.elapsed());
}
