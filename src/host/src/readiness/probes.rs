//! Logins that fit each `Match` block that could open a way, to ask sshd about.
//!
//! They are what can be tried, never all that there could be: what a block says counts whether or not one of them meets
//! it ([`blocks`]).

use std::{collections::BTreeSet, path::Path};

use super::MAX_PROBES;
use crate::{
    accounts::{self, Accounts},
    sshd::{
        blocks,
        effective::{ANYBODY, Spec},
        glob,
        scan::{Criterion, Scan},
    },
};

/// The most accounts of passwd that are tried for one pattern of a user or of a group.
const MAX_ACCOUNTS: usize = 8;
/// The most logins to one account that are asked about.
const MAX_AROUND: usize = 16;
/// What a `*` is filled in with, in turn: an earlier block may be about one of them.
const FILLINGS: [&str; 3] = ["x", "", "lockdownd-probe"];
/// The same in an address.
const NUMBERS: [&str; 3] = ["1", "7", "254"];

/// Logins to ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specs {
    /// A login of anybody, of each account that was named, and for each block that could open a way some that fit it: each once.
    pub asked: Vec<Spec>,
    /// How many more there are, past [`MAX_PROBES`].
    pub left_out: usize,
}

/// Logins of anybody, of each of these accounts, and some that fit each block that could open a way.
#[must_use]
pub fn specs<'a>(scan: &Scan, named: impl Iterator<Item = &'a str>) -> Specs {
    made_up(scan, named, &People::read())
}

fn made_up<'a>(scan: &Scan, named: impl Iterator<Item = &'a str>, people: &People) -> Specs {
    let mut always = vec![Spec::of_anybody()];
    always.extend(named.map(Spec::of));
    let lists = blocks::that_open(scan).into_iter().map(|index| fitting(&blocks::criteria(scan, index), people));
    let mut seen = BTreeSet::new();
    let mut asked: Vec<Spec> = always.into_iter().chain(in_turn(lists.collect())).collect();
    asked.retain(|spec| askable(spec) && seen.insert(describe(spec)));
    let left_out = asked.len().saturating_sub(MAX_PROBES);
    asked.truncate(MAX_PROBES);
    Specs { asked, left_out }
}

/// A login to this account from nowhere in particular, then from wherever `Match` blocks are about: at most
/// [`MAX_AROUND`], 10 ms each.
pub(crate) fn around(scan: &Scan, account: &str) -> Vec<Spec> {
    let nobody = People::default();
    let lists = (0..scan.blocks.len()).filter(|block| may_hold_for(scan, &[*block], account));
    let lists = lists.map(|block| fitting(&blocks::criteria(scan, block), &nobody)).collect();
    let mut seen = BTreeSet::new();
    let named = in_turn(lists).map(|spec| Spec { user: account.to_owned(), ..spec });
    let specs = [Spec::of(account)].into_iter().chain(named);
    specs.filter(|spec| askable(spec) && seen.insert(describe(spec))).take(MAX_AROUND).collect()
}

/// Logins to this account from a host that a pattern of `AllowUsers` or `DenyUsers` means.
pub(crate) fn from_host(account: &str, pattern: &str) -> Vec<Spec> {
    let is_address = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit() || ".:/*?".contains(c));
    let spec = |host: Option<String>, addr: Option<String>| {
        let any = Spec::of(account);
        Spec { host: host.unwrap_or(any.host), addr: addr.unwrap_or(any.addr), ..Spec::of(account) }
    };
    match is_address(pattern) {
        true => addresses(pattern).into_iter().map(|addr| spec(None, Some(addr))).collect(),
        false => concrete(pattern).into_iter().map(|host| spec(Some(host), None)).collect(),
    }
}

/// Whether `Match` blocks may hold for this account, by the users that they name.
pub(crate) fn may_hold_for(scan: &Scan, within: &[usize], account: &str) -> bool {
    let criteria = within.iter().flat_map(|block| blocks::criteria(scan, *block));
    criteria.filter(|criterion| criterion.name == "user").all(|criterion| is_listed(&[&criterion.value], account))
}

/// The first of each list, then the second of each…: what is cut off is what adds least.
fn in_turn(lists: Vec<Vec<Spec>>) -> impl Iterator<Item = Spec> {
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(move |n| lists.iter().filter_map(|list| list.get(n).cloned()).collect::<Vec<_>>())
}

/// A sentence's part that tells a login.
#[must_use]
pub fn describe(spec: &Spec) -> String {
    let Spec { user, host, addr, laddr, lport, rdomain } = spec;
    let who = if user == ANYBODY { "any account" } else { user.as_str() };
    let plain = Spec { user: user.clone(), ..Spec::of(user) };
    match *spec == plain {
        true => who.to_owned(),
        false => {
            let rdomain = rdomain.as_ref().map(|rdomain| format!(" in {rdomain}")).unwrap_or_default();
            format!("{who} from {host} ({addr}) at {laddr} port {lport}{rdomain}")
        }
    }
}

pub(crate) fn askable(spec: &Spec) -> bool {
    let Spec { user, host, addr, laddr, rdomain, .. } = spec;
    [user, host, addr, laddr].into_iter().chain(rdomain).all(|text| !text.is_empty() && !text.contains([',', '\n']))
}

/// Logins that fit all of these conditions: every value of each of them in at least one.
fn fitting(criteria: &[&Criterion], people: &People) -> Vec<Spec> {
    let mut values: Vec<(&str, Vec<String>)> = vec![("user", people.fitting(criteria))];
    for criterion in criteria.iter().filter(|criterion| !["user", "group"].contains(&criterion.name.as_str())) {
        let of: fn(&str) -> Vec<String> = match criterion.name.as_str() {
            "address" | "localaddress" => addresses,
            _ => concrete,
        };
        let found = positive(&criterion.value).flat_map(of).filter(|text| holds(&criterion.value, text));
        values.push((&criterion.name, found.collect()));
    }
    let longest = values.iter().map(|(_, values)| values.len()).max().unwrap_or(0).max(1);
    let nth = |n: usize| {
        let mut spec = Spec::of_anybody();
        for (name, values) in values.iter().filter(|(_, values)| !values.is_empty()) {
            let value = values[n % values.len()].clone();
            match *name {
                "user" => spec.user = value,
                "host" => spec.host = value,
                "address" => spec.addr = value,
                "localaddress" => spec.laddr = value,
                "localport" => spec.lport = value.parse().unwrap_or(spec.lport),
                "rdomain" => spec.rdomain = Some(value),
                _ => {}
            }
        }
        spec
    };
    (0..longest).map(nth).collect()
}

/// The patterns of a list that are not negated.
fn positive(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|pattern| !pattern.is_empty() && !pattern.starts_with('!'))
}

/// Whether none of a list's negated patterns takes this.
fn holds(list: &str, text: &str) -> bool {
    !list.split(',').filter_map(|pattern| pattern.trim().strip_prefix('!')).any(|pattern| matches(pattern, text))
}

/// As sshd's patterns match: only `*` and `?` are special.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    glob::matches(&pattern.replace('\\', "\\\\").replace('[', "\\["), text)
}

/// Texts that fit a pattern of sshd's (ssh_config(5), PATTERNS).
fn concrete(pattern: &str) -> Vec<String> {
    let fill = |filling: &&str| pattern.replace('?', "x").replace('*', filling);
    let fillings = if pattern.contains('*') { &FILLINGS[..] } else { &FILLINGS[..1] };
    fillings.iter().map(fill).filter(|text| !text.is_empty()).collect()
}

/// Addresses that fit an address pattern: the first two and the last of a network, or some with the wildcards filled in.
fn addresses(pattern: &str) -> Vec<String> {
    if let Some((base, bits)) = pattern.split_once('/') {
        return network(base, bits).unwrap_or_else(|| vec![base.to_owned()]);
    }
    let fill = |number: &&str| {
        let text = pattern.replace('?', "1").replace('*', number);
        let parts = text.split('.').count();
        if text.contains(':') { text } else { text + &format!(".{number}").repeat(4_usize.saturating_sub(parts)) }
    };
    if pattern.contains(['*', '?']) { NUMBERS.iter().map(fill).collect() } else { vec![pattern.to_owned()] }
}

fn network(base: &str, bits: &str) -> Option<Vec<String>> {
    use std::net::IpAddr;
    let (base, bits): (IpAddr, u32) = (base.parse().ok()?, bits.parse().ok()?);
    let mut found: Vec<String> = match base {
        IpAddr::V4(base) => {
            let hosts = u32::MAX.checked_shr(bits).unwrap_or(0);
            let first = base.to_bits() & !hosts;
            [first, first | (hosts & 1), first | hosts].map(|ip| std::net::Ipv4Addr::from_bits(ip).to_string()).into()
        }
        IpAddr::V6(base) => {
            let hosts = u128::MAX.checked_shr(bits).unwrap_or(0);
            let first = base.to_bits() & !hosts;
            [first, first | (hosts & 1), first | hosts].map(|ip| std::net::Ipv6Addr::from_bits(ip).to_string()).into()
        }
    };
    found.dedup();
    Some(found)
}

/// The accounts and groups of this host.
#[derive(Debug, Default)]
struct People {
    accounts: Accounts,
    /// Each group: its name, its number and those whom it lists.
    groups: Vec<(String, u32, Vec<String>)>,
}

impl People {
    /// What cannot be read is nobody: the blocks count without.
    fn read() -> Self {
        let groups = accounts::read_bounded(Path::new(accounts::GROUP)).unwrap_or_default();
        Self {
            accounts: Accounts::read().unwrap_or_default(),
            groups: accounts::groups(&String::from_utf8_lossy(&groups)),
        }
    }

    /// Users whom these conditions could be about: accounts that there are, and where no group is asked for, made-up ones.
    fn fitting(&self, criteria: &[&Criterion]) -> Vec<String> {
        let of = |name: &str| criteria.iter().filter(|c| c.name == name).map(|c| c.value.as_str()).collect::<Vec<_>>();
        let (users, groups) = (of("user"), of("group"));
        let mut found: Vec<String> = Vec::new();
        for pattern in groups.iter().flat_map(|list| positive(list)) {
            found.extend(self.members(pattern).into_iter().filter(|name| is_listed(&users, name)).take(MAX_ACCOUNTS));
        }
        for pattern in users.iter().flat_map(|list| positive(list)).filter(|_| groups.is_empty()) {
            if pattern.contains(['*', '?']) {
                let real = self.accounts.entries.iter().map(|account| account.name.as_str());
                let real = real.filter(|name| matches(pattern, name) && is_listed(&users, name));
                found.extend(real.map(str::to_owned).take(MAX_ACCOUNTS));
            }
            found.extend(concrete(pattern).into_iter().filter(|name| is_listed(&users, name)));
        }
        let mut seen = BTreeSet::new();
        found.retain(|name| seen.insert(name.clone()));
        found
    }

    /// Those in groups whose names fit, by group(5) or by passwd(5).
    fn members(&self, pattern: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (_, gid, members) in self.groups.iter().filter(|(name, ..)| matches(pattern, name)) {
            found.extend(members.iter().cloned());
            let theirs = self.accounts.entries.iter().filter(|account| account.gid == *gid);
            found.extend(theirs.take(MAX_ACCOUNTS).map(|account| account.name.as_str().to_owned()));
        }
        found
    }
}

/// Whether each of these lists takes this name.
fn is_listed(lists: &[&str], name: &str) -> bool {
    lists.iter().all(|list| holds(list, name) && positive(list).any(|pattern| matches(pattern, name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sshd::scan::{Disk, Overlay, scan};

    fn people() -> People {
        let accounts = "root:x:0:0::/root:\nubuntu:x:1000:1000::/:\numa:x:1001:1001::/:\nfrank:x:1002:7::/:\n";
        let groups = accounts::groups("root:x:0:\nops:x:7:ubuntu,uma\nempty:x:8:\nodd\n");
        People { accounts: Accounts::parse(accounts.as_bytes()), groups }
    }

    fn fits(criteria: &[(&str, &str)]) -> Vec<Spec> {
        let criterion = |(name, value): &(&str, &str)| Criterion { name: (*name).into(), value: (*value).into() };
        let criteria: Vec<Criterion> = criteria.iter().map(criterion).collect();
        fitting(&criteria.iter().collect::<Vec<_>>(), &people())
    }

    #[test]
    fn a_login_is_made_up_for_every_alternative_of_a_block() {
        let specs = fits(&[("user", "frank,dev?,!anna"), ("address", "10.0.0.0/8,192.168.9.*")]);
        let found: Vec<_> = specs.iter().map(|spec| (spec.user.as_str(), spec.addr.as_str())).collect();
        let expected = [
            ("frank", "10.0.0.0"),
            ("devx", "10.0.0.1"),
            ("frank", "10.255.255.255"),
            ("devx", "192.168.9.1"),
            ("frank", "192.168.9.7"),
            ("devx", "192.168.9.254"),
        ];
        assert_eq!(found, expected);
        assert_eq!(fits(&[("localport", "2222"), ("all", "")])[0].lport, 2222);
    }

    #[test]
    fn the_accounts_and_groups_of_the_host_are_tried() {
        let users = |criteria: &[(&str, &str)]| fits(criteria).into_iter().map(|spec| spec.user).collect::<Vec<_>>();
        assert_eq!(users(&[("user", "u*,!uma")]), ["ubuntu", "ux", "u", "ulockdownd-probe"]);
        assert_eq!(users(&[("group", "nogroup,ops")]), ["ubuntu", "uma", "frank"]);
        assert_eq!(users(&[("group", "o*"), ("user", "*,!ubuntu")]), ["uma", "frank"]);
        assert_eq!(users(&[("group", "empty")]), [ANYBODY]);
        assert_eq!(users(&[("user", "a1,a2,a3,a4,a5,a6,a7,a8,a9")]).len(), 9);
    }

    #[test]
    fn patterns_are_filled_in() {
        for (pattern, texts) in [
            ("*", &["x", "lockdownd-probe"][..]),
            ("a?c", &["axc"]),
            ("*.example.com", &["x.example.com", ".example.com", "lockdownd-probe.example.com"]),
        ] {
            assert_eq!(concrete(pattern), texts);
        }
        for (pattern, texts) in [
            ("10.*", &["10.1.1.1", "10.7.7.7", "10.254.254.254"][..]),
            ("127.0.0.0/8", &["127.0.0.0", "127.0.0.1", "127.255.255.255"]),
            ("10.1.2.3/32", &["10.1.2.3"]),
            ("10.1.2.3", &["10.1.2.3"]),
            ("fe80::/64", &["fe80::", "fe80::1", "fe80::ffff:ffff:ffff:ffff"]),
            ("0.0.0.0/0", &["0.0.0.0", "0.0.0.1", "255.255.255.255"]),
        ] {
            assert_eq!(addresses(pattern), texts);
        }
    }

    #[test]
    fn blocks_that_open_nothing_are_not_asked_about_and_what_is_left_out_is_counted() {
        let of = |text: String| {
            let main = Path::new("/nonexistent/sshd_config");
            let overlay = Overlay { base: Disk, path: main.into(), content: Some(text.into_bytes()) };
            made_up(&scan(&overlay, main), ["root"].into_iter(), &people())
        };
        let harmless: String = (0..2 * MAX_PROBES).map(|n| format!("Match User z{n}\nX11Forwarding no\n")).collect();
        let specs = of(harmless.clone() + "Match User ubuntu\nTrustedUserCAKeys /ca\n");
        let asked: Vec<&str> = specs.asked.iter().map(|spec| spec.user.as_str()).collect();
        assert_eq!((asked, specs.left_out), (vec![ANYBODY, "root", "ubuntu"], 0));
        let specs = of(harmless.replace("X11Forwarding no", "PasswordAuthentication yes"));
        assert_eq!((specs.asked.len(), specs.left_out), (MAX_PROBES, MAX_PROBES + 2));
    }
}
