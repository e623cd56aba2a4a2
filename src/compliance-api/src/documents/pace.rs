//! How much one key may close in a minute. Hosts take each closing by itself: whoever has an approver's key, and is held for that,
//! could else keep them busy while somebody locks down what matters.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use document::{Body, Envelope, Signer, Who};
use record::Fingerprint;

use crate::{problem::Problem, verdict::Why};

/// Closings of one key in a minute, but for lockdowns of a whole stack, which end it all: those are always taken. Feeders' are
/// bounded by the people whom they hold.
pub const MAX_CLOSINGS_A_MINUTE: u32 = 120;
const MINUTE: i64 = 60;

/// What each key has closed in this minute.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    minute: i64,
    of: HashMap<Fingerprint, u32>,
}

impl Pace {
    /// Counts a closing that these signed.
    ///
    /// # Errors
    /// Each of them has closed as much as one may.
    pub(super) fn count(
        &self,
        envelope: &Envelope,
        signers: &[Signer],
        now: jiff::Timestamp,
    ) -> Result<(), Box<Problem>> {
        let counts = match envelope.document().body() {
            Body::Revoke(_) => true,
            Body::Lockdown(lockdown) => {
                lockdown.person.is_some() || lockdown.fingerprint.is_some() || lockdown.hosts.is_some()
            }
            _ => false,
        };
        let may_close = |signer: &&Signer| matches!(signer.who, Who::Approver(_) | Who::RosterKey(_));
        let closers: Vec<&Signer> = signers.iter().filter(may_close).collect();
        if !counts || closers.is_empty() {
            return Ok(());
        }
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_second().div_euclid(MINUTE);
        if counted.minute != minute {
            *counted = Counts { minute, of: HashMap::new() };
        }
        let least = closers.iter().map(|signer| counted.of.get(&signer.fingerprint).copied().unwrap_or(0)).min();
        if least.is_some_and(|least| least >= MAX_CLOSINGS_A_MINUTE) {
            let detail = format!(
                "this key has closed {MAX_CLOSINGS_A_MINUTE} times in this minute; a lockdown of the whole stack is taken at once, and \
                 this in the next minute"
            );
            return Err(Box::new(Problem::new(Why::SlowDown, detail)));
        }
        for signer in closers {
            *counted.of.entry(signer.fingerprint.clone()).or_default() += 1;
        }
        Ok(())
    }
}
