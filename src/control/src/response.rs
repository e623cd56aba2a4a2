//! What the daemon answers. Every string that came from outside is already escaped as in records; a reader that
//! prints to a terminal escapes again.
//!
//! Fields are only ever added, and every added field has a default: an older `lockdownctl` reads a newer daemon.

mod break_glass;
mod grants;
mod listed;
mod stack;
mod status;
mod ways_in;

use serde::{Deserialize, Serialize};

use crate::{
    Refusal, RefusalCode,
    frame::{self, FrameError, MAX_FRAME},
};

pub use break_glass::{BreakGlassAnswer, BreakGlassView};
pub use grants::{
    AllowedAnswer, EffectiveEnd, EndCause, EndView, EndWhy, GrantState, GrantView, GrantsAnswer, LeftRunning,
    LockdownAnswer, Origin, RevokeAnswer,
};
pub use listed::{
    Change, ChangeKind, EnforceAnswer, KeyView, PeopleAnswer, PersonView, PlanAnswer, QuarantineAnswer,
    QuarantineDetail, QuarantineItem, RecordsAnswer, ReloadAnswer, RequiredView, RestoreAnswer, RetiredAnswer,
    SessionKind, SessionView, SessionsAnswer,
};
pub use stack::{ApplyAnswer, ApplyOutcome, FeedView, RosterView, StackView, WaitingDocument};
pub use status::{
    ConfigSource, ConfigState, GrantLine, LedgerState, Mode, PersonLine, Problem, Severity, SinkState, Status,
};
pub use ways_in::{Closing, Server, Way, WayState, WaysInAnswer};

/// What comes back for one [`crate::Request`].
pub type Response = Result<Answer, Refusal>;

/// What was done or found, one variant per kind of request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`crate::Request::Status`].
    Status(Box<Status>),
    /// To [`crate::Request::Allow`].
    Allow(Box<AllowedAnswer>),
    /// To [`crate::Request::Revoke`].
    Revoke(RevokeAnswer),
    /// To [`crate::Request::Lockdown`].
    Lockdown(LockdownAnswer),
    /// To [`crate::Request::Enforce`].
    Enforce(EnforceAnswer),
    /// To [`crate::Request::Grants`].
    Grants(GrantsAnswer),
    /// To [`crate::Request::Sessions`].
    Sessions(SessionsAnswer),
    /// To [`crate::Request::People`].
    People(PeopleAnswer),
    /// To [`crate::Request::Plan`].
    Plan(PlanAnswer),
    /// To [`crate::Request::Records`].
    Records(RecordsAnswer),
    /// To [`crate::Request::QuarantineList`].
    Quarantine(QuarantineAnswer),
    /// To [`crate::Request::QuarantineShow`].
    QuarantineItem(Box<QuarantineDetail>),
    /// To [`crate::Request::QuarantineRestore`].
    Restore(RestoreAnswer),
    /// To [`crate::Request::QuarantineNow`].
    Retired(RetiredAnswer),
    /// To [`crate::Request::BreakGlassTest`].
    BreakGlass(BreakGlassAnswer),
    /// To [`crate::Request::Reload`].
    Reload(ReloadAnswer),
    /// To [`crate::Request::WaysIn`].
    WaysIn(Box<WaysInAnswer>),
    /// To [`crate::Request::Apply`].
    Apply(Box<ApplyAnswer>),
}

/// The frame that carries `response`. A list that does not fit [`MAX_FRAME`] is cut and says by how much; what cannot
/// be cut becomes a refusal that says so. So there is always an answer.
#[must_use]
pub fn encode_response(mut response: Response) -> Vec<u8> {
    loop {
        match frame::encode(&response, MAX_FRAME) {
            Ok(bytes) => return bytes,
            Err(error @ FrameError::TooLong { .. }) if response.as_mut().map_or(true, |a| !a.halve()) => {
                response = Err(Refusal::new(RefusalCode::Failed, format!("the answer does not fit: {error}")));
            }
            Err(FrameError::TooLong { .. }) => {}
            Err(error) => {
                response = Err(Refusal::new(RefusalCode::Failed, format!("the answer cannot be written: {error}")));
            }
        }
    }
}

impl Answer {
    /// Drops the second half of the answer's list and counts what was dropped; false where there is nothing to drop.
    fn halve(&mut self) -> bool {
        fn cut<T>(list: &mut Vec<T>, left_off: &mut u64) -> bool {
            let dropped = list.len() - list.len() / 2;
            list.truncate(list.len() / 2);
            *left_off += dropped as u64;
            dropped > 0
        }
        match self {
            Self::Grants(a) => cut(&mut a.grants, &mut a.left_off),
            Self::Sessions(a) => cut(&mut a.sessions, &mut a.left_off),
            Self::People(a) => cut(&mut a.people, &mut a.left_off),
            Self::Plan(a) => cut(&mut a.changes, &mut a.left_off),
            Self::Quarantine(a) => cut(&mut a.items, &mut a.left_off),
            Self::WaysIn(a) => cut(&mut a.ways, &mut a.left_off) || cut(&mut a.servers, &mut a.left_off),
            Self::Revoke(a) => cut(&mut a.sessions, &mut a.left_off) || cut(&mut a.grants, &mut a.left_off),
            Self::Lockdown(a) => cut(&mut a.sessions, &mut a.left_off) || cut(&mut a.grants, &mut a.left_off),
            Self::Status(_)
            | Self::Allow(_)
            | Self::Enforce(_)
            | Self::Records(_)
            | Self::QuarantineItem(_)
            | Self::Restore(_)
            | Self::Retired(_)
            | Self::BreakGlass(_)
            | Self::Reload(_)
            | Self::Apply(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use record::Account;

    fn item(why: &str) -> QuarantineItem {
        QuarantineItem {
            id: "q-1".to_owned(),
            account: "ubuntu".parse::<Account>().unwrap(),
            path: "/home/ubuntu/.ssh/authorized_keys".to_owned(),
            removed_at: Timestamp::UNIX_EPOCH,
            size: 1,
            why: why.to_owned(),
            restorable: true,
            fingerprints: Vec::new(),
        }
    }

    fn reread(response: Response) -> Response {
        frame::read(&mut encode_response(response).as_slice(), MAX_FRAME).unwrap()
    }

    #[test]
    fn answers_and_refusals_survive_the_wire() {
        let restored = Answer::Restore(RestoreAnswer { item: item("x"), path: "/p".to_owned(), notes: Vec::new() });
        for response in
            [Ok(restored), Err(Refusal::new(RefusalCode::UnknownPerson, "no franc").hint("frank").detail("d"))]
        {
            assert_eq!(reread(response.clone()), response);
        }
    }

    #[test]
    fn a_list_that_does_not_fit_is_cut_and_says_by_how_much() {
        let items = vec![item(&"w".repeat(1000)); 3000];
        let Ok(Answer::Quarantine(answer)) = reread(Ok(Answer::Quarantine(QuarantineAnswer { items, left_off: 5 })))
        else {
            panic!("not the same answer")
        };
        assert!(answer.items.len() >= 500, "{}", answer.items.len());
        assert_eq!(answer.items.len() as u64 + answer.left_off, 3005);
    }

    #[test]
    fn what_cannot_be_cut_becomes_a_refusal_that_says_so() {
        let huge = RestoreAnswer { item: item("x"), path: "p".repeat(MAX_FRAME), notes: Vec::new() };
        let refusal = reread(Ok(Answer::Restore(huge))).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Failed);
        assert!(refusal.message.contains("over the limit of 1048576"), "{refusal}");
        let endless = Refusal::new(RefusalCode::Failed, "m".repeat(MAX_FRAME));
        assert!(reread(Err(endless)).unwrap_err().message.contains("does not fit"));
    }

    #[test]
    fn as_many_records_as_one_answer_may_hold_always_fit() {
        let line = "\"".repeat(6 * 1024);
        let lines = vec![line; crate::MAX_RECORDS_BYTES / (6 * 1024)];
        let ledger = "0".repeat(32).parse().unwrap();
        let answer = RecordsAnswer { lines, after: 1, more: true, ledger };
        assert!(matches!(reread(Ok(Answer::Records(answer))), Ok(Answer::Records(_))));
    }
}
