//! Our reading of `authorized_keys` beside a real sshd's: the same file, every key in it asked for.
//!
//! `data/authorized_keys_lines/table` holds the odd lines, `parsing/lines.rs` makes the generated ones. What sshd takes we
//! must take; where the table says `doubt`, and nowhere else, we may take more.

#[path = "parsing/lines.rs"]
mod lines;

use std::collections::BTreeSet;
use std::time::Duration;

use instance_tests::{Instance, on_each_release};
use lines::{Case, Verdict};
use lockdown_core::keys::{file, line::Line};

/// What asking a thousand keys may take; it takes about twenty seconds.
const PROBE_LIMIT: Duration = Duration::from_secs(120);
/// Where sshd looks, inside.
const PLACE: &str = "/root/probe";

/// Whoever holds one of these keys gets in, as we read the file. A certificate authority's key opens nothing itself.
fn live(content: &[u8]) -> BTreeSet<String> {
    file::lines(content)
        .filter_map(|line| match line {
            Line::Entry(entry) if !entry.options.cert_authority => Some(entry.key.fingerprint().to_string()),
            _ => None,
        })
        .collect()
}

/// The fingerprint of the key that a case is about; its plain spelling is a line that is live. A certificate has none,
/// and nothing that sshd answers.
fn fingerprint(case: &Case) -> String {
    live(case.offered.as_bytes()).into_iter().next().unwrap_or_default()
}

/// All the lines in one file; those without a line end at its end.
fn one_file(cases: &[Case]) -> Vec<u8> {
    let (mut whole, last): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.bytes.ends_with(b"\n"));
    assert!(last.len() <= 1, "only the last line of a file can lack its end");
    whole.extend(last);
    whole.iter().flat_map(|case| case.bytes.clone()).collect()
}

#[test]
fn we_read_each_line_of_the_table_as_it_says() {
    let cases = lines::table();
    assert!(cases.len() >= 200);
    for case in &cases {
        let live = live(&case.bytes).contains(&fingerprint(case));
        assert_eq!(live, case.verdict != Some(Verdict::Dead), "{}", case.origin);
    }
}

on_each_release! {
    fn we_and_sshd_agree_on_which_keys_are_live(release) {
        let mut cases = lines::table();
        cases.extend(lines::generated());
        let content = one_file(&cases);
        let offered: String = cases.iter().map(|case| format!("{}\n", case.offered)).collect();

        let instance = Instance::boot_bare(release);
        instance.write(&format!("{PLACE}/authorized_keys"), &content);
        instance.write(&format!("{PLACE}/offered"), &offered);
        let probe = include_str!("../data/authorized_keys_lines/probe.sh");
        let answers = instance.run_for(PROBE_LIMIT, &format!("cd {PLACE}\n{probe}"), b"").expect_ok();
        let sshd: BTreeSet<String> = answers.lines().map(str::to_owned).collect();
        let ours = live(&content);

        let taken = sshd.len();
        assert!((200..cases.len()).contains(&taken), "sshd took {taken} of {} keys: the probe is broken", cases.len());
        let mut wrong = Vec::new();
        for case in &cases {
            let key = fingerprint(case);
            let (ours, sshd) = (ours.contains(&key), sshd.contains(&key));
            let right = match case.verdict {
                Some(Verdict::Live) => ours && sshd,
                Some(Verdict::Dead) => !ours && !sshd,
                Some(Verdict::Doubt) => ours,
                None => ours == sshd,
            };
            if !right {
                wrong.push(format!("we {ours}, sshd {sshd}: {}", case.origin));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
