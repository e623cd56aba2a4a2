//! What each `Match` block comes to where it holds, whether or not a login can be made up for which it does.
//!
//! Pure. Asking sshd about made-up logins can miss a block: an earlier one may take just those. So what a block sets counts
//! as in force for somebody, unless a block before it has decided the same for everybody. It must never leave out
//! what a block sets.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::{Criterion, Place, Scan, Setting};

/// Every keyword that can let somebody in, or keep it off the record.
pub const OPENING: [&str; 17] = [
    "authenticationmethods",
    "authorizedkeyscommand",
    "authorizedkeysfile",
    "authorizedprincipalscommand",
    "authorizedprincipalsfile",
    "gssapiauthentication",
    "hostbasedauthentication",
    "kbdinteractiveauthentication",
    "kerberosauthentication",
    "loglevel",
    PAM_SERVICE,
    "passwordauthentication",
    "permitemptypasswords",
    "permitrootlogin",
    "pubkeyauthentication",
    "trustedusercakeys",
    "usepam",
];
/// Whose stack the gate has to stand in.
const PAM_SERVICE: &str = "pamservicename";
/// The most different blocks that are told of one sshd.
pub const MAX_BLOCKS: usize = 1024;

/// Keywords with their values, as `sshd -T` prints them.
pub type Values = BTreeMap<String, Vec<String>>;

/// A block that sets something of [`OPENING`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its `Match` line.
    pub line: String,
    /// Where that stands.
    pub place: Place,
    /// What holds where the block does and no other.
    pub values: Values,
    /// Whether it says anything about root's own logins.
    pub root: bool,
}

/// Each block that sets something of [`OPENING`], each outcome once, over what holds for anybody; and how many there are
/// past [`MAX_BLOCKS`]. Blocks about `exempt` accounts alone are left out, as are settings that `leave_out` names.
#[must_use]
pub fn blocks(
    scan: &Scan,
    anybody: &Values,
    exempt: &[&str],
    leave_out: impl Fn(&Setting) -> bool,
) -> (Vec<Block>, usize) {
    let opening = opening(scan, leave_out);
    let everybody: Vec<bool> =
        (0..scan.blocks.len()).map(|index| for_everybody(&criteria(scan, index), exempt)).collect();
    let mut seen = BTreeSet::new();
    let (mut found, mut more) = (Vec::new(), 0);
    for index in with_settings(&opening) {
        let criteria = criteria(scan, index);
        if only_about(&criteria, exempt) {
            continue;
        }
        if found.len() == MAX_BLOCKS {
            more += 1;
            continue;
        }
        let sets = set_by(scan, index, &opening, &everybody);
        if sets.is_empty() || !seen.insert(sets.clone()) {
            continue;
        }
        let root = sets.contains_key("permitrootlogin");
        let mut values = anybody.clone();
        values.extend(sets);
        let words = |c: &&Criterion| [c.name.as_str(), c.value.as_str()].join(" ").trim().to_owned();
        let line = format!("Match {}", criteria.iter().map(words).collect::<Vec<_>>().join(" "));
        found.push(Block { line, place: scan.blocks[index].place.clone(), values, root });
    }
    (found, more)
}

/// Every PAM service that is named anywhere.
pub fn services(scan: &Scan) -> impl Iterator<Item = &str> {
    scan.of(PAM_SERVICE).filter_map(|setting| setting.args.first()).map(String::as_str)
}

/// The blocks in which something of [`OPENING`] stands.
#[must_use]
pub fn that_open(scan: &Scan) -> BTreeSet<usize> {
    with_settings(&opening(scan, |_| false))
}

/// Whether two logins' settings agree in everything of [`OPENING`].
#[must_use]
pub fn agree(one: &Values, other: &Values) -> bool {
    OPENING.iter().all(|keyword| one.get(*keyword) == other.get(*keyword))
}

/// The conditions of a block and of those that it stands in.
#[must_use]
pub fn criteria(scan: &Scan, index: usize) -> Vec<&Criterion> {
    chain(scan, index).into_iter().flat_map(|index| &scan.blocks[index].criteria).collect()
}

fn chain(scan: &Scan, index: usize) -> Vec<usize> {
    std::iter::successors(Some(index), |index| scan.blocks[*index].within).collect()
}

fn opening(scan: &Scan, leave_out: impl Fn(&Setting) -> bool) -> Vec<(&'static str, &Setting)> {
    let of = |setting| Some((opens(setting)?, setting));
    scan.settings.iter().filter(|setting| !leave_out(setting)).filter_map(of).collect()
}

/// Its keyword, if that is one of [`OPENING`] or an older name of one.
fn opens(setting: &Setting) -> Option<&'static str> {
    let keyword = match setting.keyword.as_str() {
        "challengeresponseauthentication" | "skeyauthentication" => "kbdinteractiveauthentication",
        "dsaauthentication" => "pubkeyauthentication",
        keyword => keyword,
    };
    OPENING.into_iter().find(|opening| *opening == keyword)
}

fn with_settings(opening: &[(&str, &Setting)]) -> BTreeSet<usize> {
    opening.iter().filter_map(|(_, setting)| setting.blocks.last().copied()).collect()
}

/// What a block sets, its own lines and those around it: the first of each keyword, unless it is decided already.
fn set_by(scan: &Scan, index: usize, opening: &[(&'static str, &Setting)], everybody: &[bool]) -> Values {
    let chain = chain(scan, index);
    let (mut decided, mut sets) = (BTreeSet::new(), Values::new());
    for (keyword, setting) in opening.iter().filter(|(_, setting)| !setting.blocks.is_empty()) {
        if decided.contains(keyword) {
            continue;
        }
        let is_here = setting.blocks.iter().all(|block| chain.contains(block));
        let everybody = setting.blocks.last().is_some_and(|block| everybody[*block]);
        if is_here {
            sets.insert((*keyword).to_owned(), vec![as_printed(keyword, &setting.args)]);
        }
        // A PAM service that is named has to have the gate, whoever gets to it.
        if is_here || (everybody && *keyword != PAM_SERVICE) {
            decided.insert(*keyword);
        }
    }
    sets
}

/// As `sshd -T` prints a value.
fn as_printed(keyword: &str, args: &[String]) -> String {
    let value = args.join(" ");
    match keyword {
        "loglevel" => value.to_ascii_uppercase(),
        "permitrootlogin" if value.eq_ignore_ascii_case("prohibit-password") => "without-password".to_owned(),
        "permitrootlogin" => value.to_ascii_lowercase(),
        _ if ["yes", "no", "none"].iter().any(|word| value.eq_ignore_ascii_case(word)) => value.to_ascii_lowercase(),
        _ => value,
    }
}

/// Whether these hold for everybody but exempt accounts.
fn for_everybody(criteria: &[&Criterion], exempt: &[&str]) -> bool {
    let is_exempt = |pattern: &str| pattern.strip_prefix('!').is_some_and(|name| exempt.contains(&name));
    criteria.iter().all(|criterion| match criterion.name.as_str() {
        "all" => true,
        "user" => {
            let (everybody, others): (Vec<&str>, Vec<&str>) = criterion.value.split(',').partition(|p| *p == "*");
            !everybody.is_empty() && others.into_iter().all(is_exempt)
        }
        _ => false,
    })
}

/// Whether these hold for exempt accounts alone.
fn only_about(criteria: &[&Criterion], exempt: &[&str]) -> bool {
    let is_exempt = |pattern: &str| pattern.starts_with('!') || exempt.contains(&pattern);
    criteria.iter().any(|criterion| criterion.name == "user" && criterion.value.split(',').all(is_exempt))
}

#[cfg(test)]
mod tests;
