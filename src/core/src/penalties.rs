//! Which addresses sshd shuts out, and how long at most (`PerSourcePenalties` in sshd_config(5), OpenSSH 9.8).
//!
//! sshd keeps that to itself, and says so only when it drops a connection. So it is reckoned again from what its log says:
//! each connection that fails adds to what its address owes; past a threshold everything from there is dropped until that
//! is over. Pure: the log's lines and sshd's settings come in. Bounded: what has no room is not told of.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

use control::Cidr;
use jiff::{SignedDuration, Timestamp};

use crate::{machine::MAX_LISTED, sshd_log::Why};

/// The most addresses that are kept; of more, those that failed longest ago are forgotten.
pub const MAX_ADDRESSES: usize = 1_024;
/// The most failures of one address that are kept: enough to reach any threshold that makes sense.
pub const MAX_KNOCKS: usize = 128;
/// How long a failure is kept: sshd's own default for the longest penalty.
const KEPT: SignedDuration = SignedDuration::from_mins(10);

/// A connection that failed, or was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knock {
    /// From where.
    pub address: IpAddr,
    /// When, by the journal's time.
    pub time: Timestamp,
    /// Why.
    pub why: Why,
}

/// How long each failure counts, and from when on: `PerSourcePenalties` as `sshd -T` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    auth_fail: SignedDuration,
    no_auth: SignedDuration,
    grace_exceeded: SignedDuration,
    refuse_connection: SignedDuration,
    least: SignedDuration,
    most: SignedDuration,
    /// How many leading bits of an IPv4 and of an IPv6 address count: all who share them are one (`PerSourceNetBlockSize`).
    bits: (u8, u8),
}

impl Rules {
    /// Reads the setting; `None` where there are no penalties.
    #[must_use]
    pub fn parse(setting: &str) -> Option<Self> {
        let of = |name: &str, default: i64| {
            let words = setting.split_ascii_whitespace().filter_map(|word| word.split_once(':'));
            let mut given = words.filter(|(known, _)| *known == name).map(|(_, seconds)| seconds);
            let seconds = given.next().and_then(|seconds| seconds.split('.').next()?.parse().ok());
            SignedDuration::from_secs(seconds.unwrap_or(default))
        };
        // The defaults of OpenSSH 10.0, for a word that is not printed.
        (!setting.is_empty() && setting != "no").then(|| Self {
            auth_fail: of("authfail", 5),
            no_auth: of("noauth", 1),
            grace_exceeded: of("grace-exceeded", 10),
            refuse_connection: of("refuseconnection", 10),
            least: of("min", 15),
            most: of("max", 600),
            bits: (32, 128),
        })
    }

    /// The same by `PerSourceNetBlockSize`, as `sshd -T` prints it: `24:64`.
    #[must_use]
    pub fn by_block(self, setting: &str) -> Self {
        let mut bits = setting.split(':').map(|bits| bits.parse().ok());
        let (v4, v6) = (bits.next().flatten(), bits.next().flatten());
        Self { bits: (v4.unwrap_or(self.bits.0), v6.unwrap_or(self.bits.1)), ..self }
    }

    fn block(self, address: IpAddr) -> Cidr {
        let (v4, v6) = self.bits;
        Cidr::around(address, if address.to_canonical().is_ipv4() { v4 } else { v6 })
    }

    /// What one failure adds. One that was dropped adds nothing.
    fn adds(self, why: Why) -> SignedDuration {
        match why {
            Why::Penalty | Why::TooManyConnections => SignedDuration::ZERO,
            Why::Timeout => self.grace_exceeded,
            Why::NoLogin | Why::NoCommonAlgorithm | Why::Protocol => self.no_auth,
            Why::Other => self.refuse_connection,
            _ => self.auth_fail,
        }
    }
}

/// An address that sshd shuts out now, or a block of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutOut {
    /// Which.
    pub from: Cidr,
    /// Until when, at most.
    pub until: Timestamp,
    /// How many connections from there were dropped for it.
    pub dropped: u64,
}

/// What has failed lately, by address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Knocks {
    of: BTreeMap<IpAddr, VecDeque<(Timestamp, Why)>>,
}

impl Knocks {
    /// Takes one.
    pub fn take(&mut self, knock: Knock) {
        let Knock { address, time, why } = knock;
        if self.of.len() >= MAX_ADDRESSES && !self.of.contains_key(&address) {
            let last = |knocks: &VecDeque<(Timestamp, Why)>| knocks.back().map(|(time, _)| *time);
            let oldest = self.of.iter().min_by_key(|(_, knocks)| last(knocks)).map(|(address, _)| *address);
            oldest.map(|oldest| self.of.remove(&oldest));
        }
        let knocks = self.of.entry(address).or_default();
        knocks.retain(|(at, _)| time.duration_since(*at) < KEPT);
        if knocks.len() >= MAX_KNOCKS {
            knocks.pop_front();
        }
        knocks.push_back((time, why));
    }

    /// Whether nothing has failed lately.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Which addresses are shut out now by these rules, those that are for longest first: at most [`MAX_LISTED`], and how many
    /// more.
    #[must_use]
    pub fn shut_out(&self, rules: Rules, is_spared: impl Fn(IpAddr) -> bool, now: Timestamp) -> (Vec<ShutOut>, usize) {
        let mut blocks: BTreeMap<(IpAddr, u8), Vec<(Timestamp, Why)>> = BTreeMap::new();
        for (address, knocks) in self.of.iter().filter(|(address, _)| !is_spared(**address)) {
            let block = rules.block(*address);
            blocks.entry((block.address(), block.prefix())).or_default().extend(knocks);
        }
        let reckoned = blocks.into_iter().filter_map(|((address, prefix), mut knocks)| {
            knocks.sort_by_key(|(time, _)| *time);
            reckon(Cidr::around(address, prefix), &knocks, rules, now)
        });
        let mut found: Vec<ShutOut> = reckoned.collect();
        found.sort_by_key(|one| std::cmp::Reverse(one.until));
        let more = found.len().saturating_sub(MAX_LISTED);
        found.truncate(MAX_LISTED);
        (found, more)
    }
}

/// As srclimit.c of OpenSSH 9.8 reckons.
fn reckon(from: Cidr, knocks: &[(Timestamp, Why)], rules: Rules, now: Timestamp) -> Option<ShutOut> {
    let (mut until, mut active, mut dropped) = (Timestamp::UNIX_EPOCH, false, 0);
    for (time, why) in knocks {
        if until < *time {
            (until, active, dropped) = (*time, false, 0);
        }
        if *why == Why::Penalty {
            // sshd says so itself, whatever was not seen of how it came to that.
            (active, until) = (true, until.max(*time + SignedDuration::from_secs(1)));
            dropped += 1;
        }
        until = (until + rules.adds(*why)).min(*time + rules.most);
        active |= until.duration_since(*time) > rules.least;
    }
    (active && until > now).then_some(ShutOut { from, until, dropped })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = "crash:90.000000 authfail:5.000000 noauth:1.000000 grace-exceeded:10.000000 refuseconnection:10.000000 \
                       max:600.000000 min:15.000000 max-sources4:65536 max-sources6:65536 overflow:permissive overflow6:permissive";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
    }

    fn shut(knocks: &[(i64, Why)], now: i64) -> Option<i64> {
        let mut all = Knocks::default();
        let address = "192.0.2.1".parse().expect("an address");
        knocks.iter().for_each(|(time, why)| all.take(Knock { address, time: at(*time), why: *why }));
        let (found, more) = all.shut_out(Rules::parse(SET).expect("rules"), |_| false, at(now));
        assert_eq!(more, 0);
        found.first().map(|one| one.until.duration_since(at(now)).as_secs())
    }

    #[test]
    fn an_address_is_shut_out_once_it_owes_more_than_the_least() {
        use Why::{NoLogin, PamRefused, Penalty, Timeout, WrongKey};
        assert_eq!(shut(&[(0, WrongKey), (0, WrongKey), (0, PamRefused)], 0), None, "15 seconds are not more than 15");
        assert_eq!(shut(&[(0, WrongKey), (0, WrongKey), (0, PamRefused), (0, WrongKey)], 0), Some(20));
        assert_eq!(shut(&[(0, WrongKey), (0, WrongKey), (0, WrongKey), (0, NoLogin)], 10), Some(6));
        assert_eq!(shut(&[(0, WrongKey), (0, WrongKey), (0, WrongKey), (0, NoLogin)], 16), None, "over");
        // Far enough apart, nothing adds up.
        assert_eq!(shut(&[(0, WrongKey), (10, WrongKey), (20, WrongKey), (30, WrongKey)], 30), None);
        assert_eq!(shut(&[(0, Timeout), (0, Timeout)], 0), Some(20));
        // What is dropped adds nothing, and shows that it is shut out.
        assert_eq!(shut(&[(0, Timeout), (0, Timeout), (1, Penalty), (2, Penalty)], 2), Some(18));
        assert_eq!(shut(&[(5, Penalty)], 5), Some(1));
        let many: Vec<(i64, Why)> = (0..1_000).map(|_| (0, WrongKey)).collect();
        assert_eq!(shut(&many, 0), Some(600), "never for longer than the most");
    }

    #[test]
    fn a_block_of_addresses_owes_together() {
        let mut knocks = Knocks::default();
        for number in 1..=4 {
            let address = format!("192.0.2.{number}").parse().expect("an address");
            knocks.take(Knock { address, time: at(0), why: Why::WrongKey });
        }
        let rules = Rules::parse(SET).expect("rules");
        let found = |rules: Rules, spared: &str| {
            let (found, _) = knocks.shut_out(rules, |address| address.to_string() == spared, at(1));
            found.iter().map(|one| one.from.to_string()).collect::<Vec<_>>()
        };
        assert!(found(rules.by_block("32:128"), "").is_empty());
        assert_eq!(found(rules.by_block("24:64"), ""), ["192.0.2.0/24"]);
        assert!(found(rules.by_block("24:64"), "192.0.2.3").is_empty(), "who is spared owes nothing");
    }

    #[test]
    fn the_setting_is_read_as_sshd_prints_it() {
        assert_eq!((Rules::parse("no"), Rules::parse("")), (None, None));
        let rules = Rules::parse("authfail:60.000000 max:90.000000").expect("rules");
        assert_eq!((rules.auth_fail.as_secs(), rules.most.as_secs(), rules.least.as_secs()), (60, 90, 15));
        assert!(Rules::parse("authfail:x min:").is_some());
    }

    #[test]
    fn past_the_bound_those_who_failed_longest_ago_are_forgotten_and_a_list_says_how_many_more_there_are() {
        let mut knocks = Knocks::default();
        for number in 0..=u32::try_from(MAX_ADDRESSES).expect("few") {
            for _ in 0..5 {
                let address = std::net::Ipv4Addr::from_bits(number).into();
                knocks.take(Knock { address, time: at(i64::from(number) / 100), why: Why::WrongKey });
            }
        }
        assert_eq!(knocks.of.len(), MAX_ADDRESSES);
        let (found, more) = knocks.shut_out(Rules::parse(SET).expect("rules"), |_| false, at(10));
        assert_eq!((found.len(), found.len() + more), (MAX_LISTED, MAX_ADDRESSES));
        assert!(found[0].until >= found[1].until);
    }
}
