//! What sshd makes of accounts that were granted. Runs sshd: never on the main thread.

use std::collections::HashMap;

use lockdown_core::{config::Demand, machine::Granted};
use lockdown_host::{
    admission::{Admission, Candidate, NoAdmission},
    readiness,
};
use record::Account;

/// How many pairs of account and keys one look asks sshd about; each takes some 30 ms.
const MAX_ASKED: usize = 64;
/// How many grants that sshd does not honour are named; the rest is counted.
const MAX_NAMED: usize = 8;

/// What has to be said of a grant that was just given, beside that it is in force.
pub(super) fn asked_of_sshd(granted: &Granted) -> Option<String> {
    // Nobody can use any grant then.
    if let Some(why) = readiness::kept_out().into_iter().next() {
        return Some(format!("nobody but exempt accounts can log in: {why}"));
    }
    match Admission::read() {
        Ok(host) => judged(&host, &granted.account, &candidates(granted), granted.demand),
        Err(error) => Some(format!("whether sshd lets it in cannot be told: {error}")),
    }
}

fn candidates(granted: &Granted) -> Vec<Candidate> {
    granted.keys.iter().map(Candidate::from).collect()
}

/// What has to be said of a grant beside that it is in force.
fn judged(host: &Admission, account: &Account, keys: &[Candidate], demand: Demand) -> Option<String> {
    let look = || {
        let entry = host.entry(account)?;
        host.check(&entry, keys, demand)
    };
    match look() {
        Ok(confined) if confined.is_empty() => None,
        Ok(confined) => Some(format!("sshd lets it in to {account}, but {}", confined.join("; "))),
        Err(why) => Some(held_back(account, &why)),
    }
}

fn held_back(account: &Account, why: &NoAdmission) -> String {
    match why {
        why @ (NoAdmission::Sshd(_) | NoAdmission::NameService(_)) => {
            format!("whether sshd lets it in to {account} cannot be told: {why}")
        }
        why => format!("sshd will not let it in to {account}: {why}"),
    }
}

/// The grants that sshd does not honour, a sentence each. Runs sshd.
pub(super) fn not_honoured(granted: &[Granted]) -> Vec<String> {
    if granted.is_empty() {
        return Vec::new();
    }
    let host = match Admission::read() {
        Ok(host) => host,
        Err(error) => return vec![format!("whether sshd honours the grants cannot be told: {error}")],
    };
    let mut known: HashMap<(&Account, Vec<Candidate>), Option<String>> = HashMap::new();
    let (mut found, mut unasked) = (Vec::new(), 0);
    for Granted { title, account, keys, demand, unfit } in granted {
        if let Some(unfit) = unfit {
            found.push(format!("nothing opens with {title}: {unfit}"));
            continue;
        }
        let keys: Vec<Candidate> = keys.iter().map(Candidate::from).collect();
        let key = (account, keys.clone());
        if !known.contains_key(&key) && known.len() >= MAX_ASKED {
            unasked += 1;
            continue;
        }
        let check = || host.check(&host.entry(account)?, &keys, *demand);
        let why = known.entry(key).or_insert_with(|| check().err().map(|why| why.to_string()));
        found.extend(why.as_ref().map(|why| format!("sshd does not honour {title}: {why}")));
    }
    let more = found.len().saturating_sub(MAX_NAMED);
    found.truncate(MAX_NAMED);
    if more > 0 {
        found.push(format!("sshd does not honour {more} more of the grants"));
    }
    if unasked > 0 {
        found.push(format!("of {unasked} more of the grants it was not looked at whether sshd honours them"));
    }
    found
}
