//! Who may ask the daemon.
//!
//! By user id and by person, never by a group that a process has: a set-group-id file gives its group to anybody.

/// The live session that a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnSession {
    /// The user id of the account that was logged in to; `None` where there is no such account any more.
    pub uid: Option<u32>,
    /// Whether its grant still backs it.
    pub is_granted: bool,
    /// Whether its person is marked as an operator.
    pub is_operator: bool,
}

/// Why a request is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It does not come from a live granted session on the asker's own account.
    NotInOwnSession,
    /// It does, and they are no operator.
    NoOperator,
}

/// Judges a request of `uid` from `session`. Whether the user is a member of the operators' group is asked only of those
/// who have a session of their own, so that nobody else can cause that work.
///
/// # Errors
/// Why it is not heard.
pub fn may_ask(uid: u32, session: Option<OwnSession>, is_member: impl FnOnce() -> bool) -> Result<(), Denied> {
    if uid == 0 {
        return Ok(());
    }
    // Another user id than the session's account: a set-user-id file, or a service of somebody else's.
    let own =
        session.filter(|session| session.is_granted && session.uid == Some(uid)).ok_or(Denied::NotInOwnSession)?;
    if own.is_operator || is_member() { Ok(()) } else { Err(Denied::NoOperator) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: OwnSession = OwnSession { uid: Some(1000), is_granted: true, is_operator: false };

    #[test]
    fn root_is_heard_and_nobody_else_without_a_live_granted_session_of_their_own() {
        let denied = Err(Denied::NotInOwnSession);
        assert_eq!(may_ask(0, None, || unreachable!()), Ok(()));
        let marked = OwnSession { is_operator: true, ..OWN };
        let sessions = [
            None,
            Some(OwnSession { is_granted: false, ..marked }),
            Some(OwnSession { uid: Some(1001), ..marked }),
            Some(OwnSession { uid: None, ..marked }),
        ];
        for session in sessions {
            assert_eq!(may_ask(1000, session, || unreachable!("asked before it mattered")), denied);
        }
    }

    #[test]
    fn in_a_session_of_their_own_members_and_people_marked_as_operators_are_heard() {
        assert_eq!(may_ask(1000, Some(OWN), || true), Ok(()));
        assert_eq!(may_ask(1000, Some(OWN), || false), Err(Denied::NoOperator));
        assert_eq!(may_ask(1000, Some(OwnSession { is_operator: true, ..OWN }), || false), Ok(()));
    }
}
