//! How a host stands: pure, from what its newest ledger last said and when.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How long a host may be silent until it is taken for gone, with the end of its ledger unknown.
const GONE_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// What a daemon states last.
const STOPPED: &str = "daemon.stopped";

/// How a host, or one of its ledgers, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It speaks as it promised.
    Live,
    /// It promised to speak by now, and has not.
    Silent,
    /// Its daemon stopped in good order, and nothing came after.
    Stopped,
    /// It ended without saying so: what it may have stated after its last record is not known here.
    TailUnknown,
    /// An admin has yet to approve it; what it states is kept, and no evidence yet.
    Pending,
}

impl Standing {
    /// The same in a sentence.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Live => "It sends records as it promised.",
            Self::Silent => {
                "It promised a record by now and has sent none: look at the host and at its way to this server."
            }
            Self::Stopped => "Its daemon stopped in good order, and said so last: nothing is missing.",
            Self::TailUnknown => {
                "It ended without saying so. What it stated after its last record here, if anything, is not known: look for \
                 its disk, or account for how it ended."
            }
            Self::Pending => "An admin has yet to approve it: see GET /v1/enrolments.",
        }
    }
}

/// What is known of one ledger.
#[derive(Debug, Clone, Copy)]
pub struct LedgerFacts<'a> {
    /// Whether an admin has yet to approve it.
    pub pending: bool,
    /// The last record's type.
    pub last_type: &'a str,
    /// When that was stored.
    pub received: Timestamp,
    /// When the next sweep must have come, by the newest sweep.
    pub next_by: Option<Timestamp>,
    /// Whether another ledger of the same host has begun since.
    pub superseded: bool,
}

/// How a ledger stands at this moment. `grace` is added to its promise; `silent_after` holds without one.
#[must_use]
pub fn standing(ledger: &LedgerFacts<'_>, now: Timestamp, grace: Duration, silent_after: Duration) -> Standing {
    if ledger.pending {
        return Standing::Pending;
    }
    if ledger.last_type == STOPPED {
        return Standing::Stopped;
    }
    if ledger.superseded {
        return Standing::TailUnknown;
    }
    let after = |t: Timestamp, by: Duration| t.saturating_add(by).unwrap_or(Timestamp::MAX);
    // A host that goes on talking past its promise is not silent, even if it does not sweep. The same rule makes the
    // incident: store/silence.rs.
    let due = match ledger.next_by {
        Some(by) => after(by.max(ledger.received), grace),
        None => after(ledger.received, silent_after),
    };
    if now <= due {
        Standing::Live
    } else if now.duration_since(due) <= GONE_AFTER {
        Standing::Silent
    } else {
        Standing::TailUnknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_live_silent_stopped_pending_or_of_unknown_tail() {
        let at = |minutes: i64| Timestamp::from_second(1_700_000_000 + minutes * 60).unwrap();
        let said = |last_type, next_by: Option<i64>| LedgerFacts {
            pending: false,
            last_type,
            received: at(0),
            next_by: next_by.map(at),
            superseded: false,
        };
        let sweep = said("sweep.attested", Some(15));
        for (ledger, now, wanted) in [
            (sweep, 0, Standing::Live),
            (sweep, 20, Standing::Live),
            (sweep, 21, Standing::Silent),
            (sweep, 20 + 24 * 60, Standing::Silent),
            (sweep, 21 + 24 * 60, Standing::TailUnknown),
            (said("session.opened", None), 60, Standing::Live),
            (said("session.opened", None), 61, Standing::Silent),
            // It talked after its promise was broken.
            (said("session.opened", Some(-30)), 5, Standing::Live),
            (said("session.opened", Some(-30)), 6, Standing::Silent),
            (said("daemon.stopped", Some(15)), 100_000, Standing::Stopped),
            (LedgerFacts { superseded: true, ..sweep }, 1, Standing::TailUnknown),
            (LedgerFacts { superseded: true, ..said("daemon.stopped", None) }, 1, Standing::Stopped),
            (LedgerFacts { pending: true, ..sweep }, 1, Standing::Pending),
        ] {
            let got = standing(&ledger, at(now), Duration::from_secs(300), Duration::from_secs(3600));
            assert_eq!(got, wanted, "{ledger:?} after {now} minutes");
        }
    }
}
