//! What a live session stands on, and whether it may go on.

use std::collections::BTreeMap;

use record::{Fingerprint, GrantId, Person};
use serde::{Deserialize, Serialize};

use super::{grant::Grant, time::Now};

/// What a session stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "snake_case")]
pub enum Standing {
    /// A grant: the session ends with it.
    Granted {
        /// Which.
        grant: GrantId,
        /// Whose.
        person: Person,
        /// The key that was verified.
        fingerprint: Fingerprint,
    },
    /// The account is exempt: an emergency.
    Emergency,
    /// It was let by in observe, where enforce would have refused it.
    Unbacked {
        /// The person, where the key named one.
        person: Option<Person>,
        /// The key, where there was one.
        fingerprint: Option<Fingerprint>,
    },
}

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
pub fn judge(standing: &Standing, grant: Option<&Grant>, people: &BTreeMap<Fingerprint, Person>, now: Now) -> Verdict {
    let Standing::Granted { grant: id, person, fingerprint } = standing else { return Verdict::Keep };
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
