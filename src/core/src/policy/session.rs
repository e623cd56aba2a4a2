//! What a live session stands on, and whether it may go on.

use record::{Fingerprint, GrantId, Person};
use serde::{Deserialize, Serialize};

use super::{grant::Grant, login::KeyOwners, time::Now};

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
    /// The gate never told of it: it is older than the daemon or enforce, or came past PAM.
    Unattributed,
}

/// When a session began that stands on no grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Began {
    /// Before enforce came into force, and it goes on by the configuration, or because it is the operator's own who
    /// brought enforce into force.
    BeforeAndKept,
    /// Before enforce came into force, and such sessions end by the configuration.
    BeforeAndEnded,
    /// While enforce was in force.
    InForce,
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
pub fn judge(standing: &Standing, grant: Option<&Grant>, people: &impl KeyOwners, now: Now) -> Verdict {
    let Standing::Granted { grant: id, person, fingerprint } = standing else { return Verdict::Keep };
    let Some(grant) = grant else { return Verdict::End(format!("its grant {id} is not known any more")) };
    if let Some(end) = &grant.end {
        return Verdict::End(format!("its grant ended: {}", end.reason));
    }
    if !grant.is_active(now) {
        return Verdict::End("its grant's time is over".to_owned());
    }
    if people.owner(fingerprint) != Some(person) || !grant.opens_for(fingerprint) {
        return Verdict::End(format!("neither configuration nor roster says any more that this key is {person}'s"));
    }
    Verdict::Keep
}

/// Judges a session that stands on no grant, in enforce. Nothing but a lockdown ends what was there before and is kept,
/// and nothing ends an emergency.
pub fn judge_ungranted(standing: &Standing, began: Began) -> Verdict {
    match (standing, began) {
        (Standing::Granted { .. } | Standing::Emergency, _) | (_, Began::BeforeAndKept) => Verdict::Keep,
        (_, Began::BeforeAndEnded) => {
            Verdict::End("no grant backs it, and it began before enforce came into force".to_owned())
        }
        (_, Began::InForce) => Verdict::End("no grant backs it: it came past the login gate".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        keys::test_keys::{ED25519_FINGERPRINT, RSA_FINGERPRINT},
        policy::{
            grant::EndCause,
            test_grants::{ended, grant, id, later, now},
        },
    };

    fn key(fingerprint: &str) -> Fingerprint {
        fingerprint.parse().expect("a fingerprint")
    }

    fn people(owner: &str) -> BTreeMap<Fingerprint, Person> {
        BTreeMap::from([(key(ED25519_FINGERPRINT), owner.parse().expect("a person"))])
    }

    #[test]
    fn a_granted_session_ends_with_its_grant_or_its_key() {
        let granted = Standing::Granted {
            grant: id(1),
            person: "frank".parse().expect("a person"),
            fingerprint: key(ED25519_FINGERPRINT),
        };
        let good = grant(1, "frank", "ubuntu");
        let other_key = BTreeMap::from([(key(RSA_FINGERPRINT), "frank".parse().expect("a person"))]);
        for (grant, people, now, why) in [
            (None, people("frank"), now(), "is not known any more"),
            (Some(ended(good.clone(), EndCause::Revoked, true)), people("frank"), now(), "its grant ended: over"),
            (Some(good.clone()), people("frank"), later(3_600), "time is over"),
            (Some(good.clone()), people("grace"), now(), "says any more that this key is frank's"),
            (Some(good.clone()), other_key, now(), "says any more that this key is frank's"),
        ] {
            let verdict = judge(&granted, grant.as_ref(), &people, now);
            assert!(matches!(&verdict, Verdict::End(reason) if reason.contains(why)), "{why}: {verdict:?}");
        }
        assert_eq!(judge(&granted, Some(&good), &people("frank"), later(3_599)), Verdict::Keep);
    }

    #[test]
    fn without_a_grant_a_session_ends_unless_it_was_there_before_and_is_kept_or_is_an_emergency() {
        let unbacked = Standing::Unbacked { person: None, fingerprint: None };
        for standing in [&Standing::Unattributed, &unbacked] {
            assert_eq!(judge_ungranted(standing, Began::BeforeAndKept), Verdict::Keep);
            assert!(
                matches!(judge_ungranted(standing, Began::BeforeAndEnded), Verdict::End(why) if why.contains("before"))
            );
            assert!(
                matches!(judge_ungranted(standing, Began::InForce), Verdict::End(why) if why.contains("past the login gate"))
            );
        }
        for began in [Began::BeforeAndKept, Began::BeforeAndEnded, Began::InForce] {
            assert_eq!(judge_ungranted(&Standing::Emergency, began), Verdict::Keep);
        }
    }

    #[test]
    fn a_session_that_stands_on_no_grant_is_not_ended_here() {
        let unbacked = Standing::Unbacked { person: None, fingerprint: None };
        for standing in [Standing::Emergency, unbacked, Standing::Unattributed] {
            assert_eq!(judge(&standing, None, &BTreeMap::new(), later(1_000_000)), Verdict::Keep);
        }
    }
}
