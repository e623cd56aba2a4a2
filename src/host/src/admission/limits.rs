//! Limits that let nobody in (limits.conf(5)): no logins, or no processes.

use std::path::Path;

use crate::sshd::scan::{Disk, Files};

/// Where they stand, in the order in which pam_limits(8) reads them.
const FILES: [&str; 2] = ["/etc/security/limits.conf", "/etc/security/limits.d/*.conf"];
/// Limits that keep an account out where they are 0.
const ITEMS: [&str; 3] = ["maxlogins", "maxsyslogins", "nproc"];

/// Whom limits are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Whom<'a> {
    pub(super) name: &'a str,
    pub(super) uid: u32,
    pub(super) groups: &'a [String],
}

/// What keeps an account out, a sentence for each limit.
pub(super) fn of(whom: Whom<'_>) -> Vec<String> {
    let files = FILES.iter().flat_map(|pattern| Disk.glob(pattern).map(|(files, _)| files).unwrap_or_default());
    let texts: Vec<_> = files.filter_map(|file| Some((Disk.read(&file).ok()?, file))).collect();
    let lines = texts.iter().flat_map(|(text, file)| {
        let text = String::from_utf8_lossy(text).into_owned();
        text.lines().enumerate().map(|(at, line)| (file.as_path(), at + 1, line.to_owned())).collect::<Vec<_>>()
    });
    judged(&lines.collect::<Vec<_>>(), whom)
}

fn judged(lines: &[(&Path, usize, String)], whom: Whom<'_>) -> Vec<String> {
    let mut decides: [Option<(u8, usize)>; ITEMS.len()] = [None; ITEMS.len()];
    for (index, (_, _, line)) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        match words.as_slice() {
            [domain, _, item, _] => {
                let (Some(at), Some(rank)) = (ITEMS.iter().position(|known| known == item), rank(domain, whom)) else {
                    continue;
                };
                // The nearest counts, and of those the last.
                if decides[at].is_none_or(|(before, _)| rank <= before) {
                    decides[at] = Some((rank, index));
                }
            }
            [domain, "-"] if *domain == whom.name => return Vec::new(),
            _ => {}
        }
    }
    let zero = |(_, index): (u8, usize)| {
        let (file, number, line) = &lines[index];
        let text = record::escape(line.trim().as_bytes());
        let is_zero = text.split('#').next().unwrap_or_default().split_whitespace().last() == Some("0");
        is_zero.then(|| format!("{}:{number} lets nobody in: `{text}`: take it out", file.display()))
    };
    decides.into_iter().flatten().filter_map(zero).collect()
}

/// How near a domain is to an account; `None` where it is about others.
fn rank(domain: &str, whom: Whom<'_>) -> Option<u8> {
    let is_in = |group: &str| whom.groups.iter().any(|name| name == group);
    let others = whom.uid != 0;
    match domain {
        domain if domain == whom.name => Some(0),
        "*" | "%" if others => Some(2),
        domain => {
            let group = domain.strip_prefix(['@', '%']).filter(|group| others && is_in(group));
            group.map(|_| 1).or_else(|| within(domain, whom.uid).then_some(0))
        }
    }
}

/// Whether a range of user ids, `1000:` or `1000:1999`, has this one.
fn within(domain: &str, uid: u32) -> bool {
    let Some((first, last)) = domain.split_once(':') else { return false };
    let bound = |text: &str, otherwise| if text.is_empty() { Some(otherwise) } else { text.parse().ok() };
    match (bound(first, 0), if last.is_empty() && first.is_empty() { None } else { bound(last, u32::MAX) }) {
        (Some(first), Some(last)) => (first..=last).contains(&uid),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_limit_counts_and_of_those_the_last() {
        let groups = ["breakglass".to_owned(), "ops".to_owned()];
        let whom = Whom { name: "breakglass", uid: 1000, groups: &groups };
        let count = |text: &str, whom| {
            let lines: Vec<_> =
                text.lines().enumerate().map(|(at, line)| (Path::new("/x"), at + 1, line.to_owned())).collect();
            judged(&lines, whom).len()
        };
        for (text, barred) in [
            ("breakglass - maxlogins 0", 1),
            ("* hard maxsyslogins 0\n@ops hard nproc 0 # why", 2),
            ("# breakglass - maxlogins 0\nfrank - maxlogins 0\n@wheel - nproc 0\n* soft core 0", 0),
            ("breakglass - maxlogins 2\n* - maxlogins 0", 0),
            ("* - maxlogins 0\n@ops - maxlogins 5", 0),
            ("breakglass - maxlogins 0\nbreakglass - maxlogins 4", 0),
            ("1000:1999 hard nproc 0", 1),
            ("1001: hard nproc 0", 0),
            ("* - maxlogins 0\nbreakglass -", 0),
        ] {
            assert_eq!(count(text, whom), barred, "{text}");
        }
        assert_eq!(count("* - maxlogins 0", Whom { name: "root", uid: 0, groups: &[] }), 0);
    }
}
