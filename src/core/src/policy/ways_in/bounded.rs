//! What others can make many of: servers that users run, and logins that differ. All are counted, few are told one by one,
//! so that nobody can push another way in out of an attestation.

use std::collections::{BTreeMap, BTreeSet};

use super::{Observed, OtherServer, RunBy, Surveyed, Way, open};

/// The most ways of one method at one sshd that are told one by one, those that are open first.
pub(super) const MAX_TOLD: usize = 8;
/// The most servers of one user that are told one by one.
const MAX_OF_A_USER: usize = 8;
/// The most users whose servers are told.
const MAX_USERS: usize = 16;
/// The most bytes told of what a user can name as they like.
const MAX_NAME: usize = 200;

/// The ways of one method, with how many kinds of logins each holds for.
pub(super) fn logins(mut ways: Vec<(Way, usize)>) -> Vec<Way> {
    ways.sort_by_key(|(way, _)| way.state);
    let more: Vec<(Way, usize)> = ways.split_off(ways.len().min(MAX_TOLD));
    let mut told: Vec<Way> = ways.into_iter().map(|(way, logins)| with_others(way, logins - 1)).collect();
    // The first of them is the most open.
    let logins = more.iter().map(|(_, logins)| logins).sum::<usize>();
    told.extend(more.into_iter().next().map(|(way, _)| with_others(way, logins - 1)));
    told
}

fn with_others(mut way: Way, others: usize) -> Way {
    if others > 0 && way.whom != "any account" {
        way.whom.push_str(&format!(" and {others} more"));
    }
    way
}

/// Every server that is no sshd of root's: some of each user, and how many more there are.
pub(super) fn of_users(observed: &Observed) -> Vec<Way> {
    let mut of: BTreeMap<u32, Vec<Way>> = BTreeMap::new();
    for other in &observed.servers.others {
        of.entry(other.uid).or_default().push(other_server(other));
    }
    for sshd in &observed.servers.sshds {
        let RunBy::User { uid, pid } = sshd.run_by else { continue };
        let why = format!("an sshd that uid {uid} runs lets people in as that user, past every gate");
        let way = open("user_sshd", cut(&sshd.name), "the user who runs it", why, Some(format!("kill {pid}")));
        of.entry(uid).or_default().push(way);
    }
    let more = &observed.servers.more_of_users;
    for uid in more.keys() {
        of.entry(*uid).or_default();
    }
    let users = of.len();
    let some = |(uid, ways)| some_of(uid, ways, more.get(&uid).copied().unwrap_or(0));
    let mut ways: Vec<Way> = of.into_iter().take(MAX_USERS).flat_map(some).collect();
    if users > MAX_USERS {
        let why = format!("{} more users run SSH servers of their own", users - MAX_USERS);
        ways.push(open(
            "other_server",
            "this host",
            "whoever they let in",
            why,
            Some("ss -tlnp; kill each".to_owned()),
        ));
    }
    ways
}

fn some_of(uid: u32, mut ways: Vec<Way>, left_out: u64) -> Vec<Way> {
    let more = (ways.len().saturating_sub(MAX_OF_A_USER) as u64).saturating_add(left_out);
    ways.truncate(MAX_OF_A_USER);
    if more > 0 {
        let why = format!("{more} more SSH servers listen as uid {uid}");
        let closes = Some(format!("ss -tlnp, or pkill -u {uid}"));
        ways.push(open("other_server", "this host", "whoever they let in", why, closes));
    }
    ways
}

impl Surveyed {
    /// Takes out what would not be told of users' own servers, and counts it; cuts what they can name as they like. So what is
    /// left has a bound, whatever users run.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let user_of = |sshd: &super::Sshd| match sshd.run_by {
            RunBy::Root => None,
            RunBy::User { uid, .. } => Some(uid),
        };
        let users = self.others.iter().map(|other| other.uid).chain(self.sshds.iter().filter_map(user_of));
        let told: BTreeSet<u32> = users.collect::<BTreeSet<u32>>().into_iter().take(MAX_USERS).collect();
        let (mut seen, more) = (BTreeMap::<u32, usize>::new(), &mut self.more_of_users);
        let mut is_told = |uid: u32| {
            let theirs = seen.entry(uid).or_default();
            *theirs += 1;
            let is_told = told.contains(&uid) && *theirs <= MAX_OF_A_USER;
            if !is_told {
                *more.entry(uid).or_default() += 1;
            }
            is_told
        };
        self.others.retain(|other| other.uid == 0 || is_told(other.uid));
        self.sshds.retain(|sshd| user_of(sshd).is_none_or(&mut is_told));
        let of_users = self.others.iter_mut().filter(|other| other.uid != 0);
        of_users.for_each(|other| other.program.truncate(cut(&other.program).len()));
        let of_users = self.sshds.iter_mut().filter(|sshd| sshd.run_by != RunBy::Root);
        of_users.for_each(|sshd| sshd.name.truncate(cut(&sshd.name).len()));
        self
    }
}

fn other_server(other: &OtherServer) -> Way {
    let OtherServer { program, pid, uid, listens, unit } = other;
    let program = cut(program);
    let at = if listens.is_empty() { "somewhere".to_owned() } else { listens.join(", ") };
    let why =
        format!("an SSH server, or a program that has one in it, listens at {at} as uid {uid}; the gate is not in it");
    let (name, closes) = match (unit, pid) {
        (Some(unit), _) => (format!("{program} ({unit})"), Some(format!("systemctl disable --now {unit}"))),
        (None, Some(pid)) => (format!("{program} (process {pid})"), Some(format!("kill {pid}"))),
        (None, None) => (program.to_owned(), None),
    };
    open("other_server", &name, "whoever it lets in", why, closes)
}

/// The servers that ways lead through, with where they listen: root's, and as many of users' as are told.
#[must_use]
pub fn servers(observed: &Observed) -> Vec<(&str, &[String])> {
    let is_roots = |sshd: &&super::Sshd| sshd.run_by == RunBy::Root;
    let of_root =
        observed.servers.sshds.iter().filter(is_roots).map(|sshd| (sshd.name.as_str(), sshd.listens.as_slice()));
    let others = observed.servers.others.iter().map(|other| (cut(&other.program), other.listens.as_slice()));
    let of_users = observed
        .servers
        .sshds
        .iter()
        .filter(|sshd| !is_roots(sshd))
        .map(|sshd| (cut(&sshd.name), sshd.listens.as_slice()));
    of_root.chain(others.chain(of_users).take(MAX_OF_A_USER * MAX_USERS)).collect()
}

fn cut(name: &str) -> &str {
    let end = (0..=MAX_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    &name[..end]
}
