//! Grants for tests, at one fixed now. It holds no check of its own.

use std::time::Duration;

use jiff::Timestamp;
use record::{Actor, GrantId};

use super::{
    grant::{End, EndCause, Grant, Origin},
    time::{Deadline, Now},
};

/// 2027-01-15 08:00:00 UTC, a hundred seconds after the boot.
pub fn now() -> Now {
    Now { wall: Timestamp::from_second(1_800_000_000).expect("in range"), boot: Duration::from_secs(100) }
}

/// So many seconds after [`now`], on both clocks.
pub fn later(seconds: u64) -> Now {
    let Deadline { wall, boot } = lasts(seconds);
    Now { wall, boot }
}

/// The end of what lasts so many seconds from [`now`].
pub fn lasts(seconds: u64) -> Deadline {
    Deadline::after(Duration::from_secs(seconds), now())
}

/// An id from a number.
pub fn id(number: u64) -> GrantId {
    format!("g-{number:016x}").parse().expect("16 hex digits are an id")
}

/// An operator's grant of an hour from [`now`] on, on record, to an account of user id 1000.
pub fn grant(number: u64, person: &str, account: &str) -> Grant {
    let hour = lasts(3_600);
    Grant {
        id: id(number),
        person: person.parse().expect("a person"),
        account: account.parse().expect("an account"),
        uid: 1_000,
        from: Vec::new(),
        reason: "INC-42".to_owned(),
        origin: Origin::Operator { actor: Actor::default() },
        created_at: now().wall,
        starts_at: now().wall,
        ends: hour,
        ceiling: hour,
        recorded: true,
        end: None,
    }
}

/// The same, ended.
pub fn ended(grant: Grant, cause: EndCause, recorded: bool) -> Grant {
    let end = End { cause, at: now().wall, reason: "over".to_owned(), actor: None, recorded };
    Grant { end: Some(end), ..grant }
}
