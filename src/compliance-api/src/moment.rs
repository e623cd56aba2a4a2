//! A moment as answers write it: RFC 3339, UTC, six digits of a second, as in records.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type},
    },
};

/// A moment in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Timestamp);

/// No artifact is older: before this, a clock was never set.
const EPOCH: Timestamp = Timestamp::constant(1_704_067_200, 0);

/// Whether a time that somebody names is one that no clock which is right can say, where it is heard at `now`.
#[must_use]
pub fn is_clock_off(time: Timestamp, now: Timestamp, ahead: Duration) -> bool {
    time > now.saturating_add(ahead).unwrap_or(Timestamp::MAX) || time < EPOCH
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2026-05-26T12:00:01.123456Z"])
            .into()
    }
}

impl ToSchema for Moment {}
