//! Whether a live session may go on.

use std::collections::BTreeMap;

use record::{Fingerprint, Person};

use super::grant::Grant;
use crate::{
    host::clock::Now,
    sessions::{Session, Standing},
};

/// What becomes of a live session.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It goes on.
    Keep,
    /// It ends, for this reason.
    End(String),
}

/// Judges one session against its grant and the people there are. One that stands on no grant (an emergency, or let by
/// in observe) is not this function's to end: only a lockdown ends the latter, and nothing the former.
pub fn judge(session: &Session, grant: Option<&Grant>, people: &BTreeMap<Fingerprint, Person>, now: Now) -> Verdict {
    let Standing::Granted { grant: id, person, fingerprint } = &session.standing else { return Verdict::Keep };
    let Some(grant) = grant else { return Verdict::End(format!("its grant {id} is not known any more")) };
    if let Some(end) = &grant.end {
        return Verdict::End(format!("its grant ended: {}", end.reason));
    }
    if !grant.is_active(now) {
        return Verdict::End("its grant's time is over".to_owned());
    }
    if people.get(fingerprint) != Some(person) {
        return Verdict::End(format!("the configuration no longer says that this key is {person}'s"));
    }
    Verdict::Keep
}
