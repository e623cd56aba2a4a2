//! Where a walk through artifacts stands, as text that a client hands back. A walk sees what was stored when it began
//! and nothing that came after: so pages neither repeat nor skip anything, however much arrives meanwhile.

use std::{fmt, str::FromStr};

use crate::store::artifacts::Place;

/// What a cursor begins with: its version.
const PREFIX: &str = "c1";

/// Where a walk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The last row that was stored when the walk began.
    pub(super) newest: i64,
    /// The last place that was looked at.
    pub(super) after: Place,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}_{}_{}_{}", self.newest, self.after.at, self.after.id)
    }
}

/// Text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cursor is not one of ours: take `next` of the answer before, unchanged, with the same query")]
pub(super) struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;
    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let mut parts = text.split('_');
        if parts.next() != Some(PREFIX) {
            return Err(NotACursor);
        }
        let mut number = || parts.next().and_then(|p| p.parse().ok()).ok_or(NotACursor);
        let cursor = Self { newest: number()?, after: Place { at: number()?, id: number()? } };
        // One way to write it.
        if cursor.to_string() == text { Ok(cursor) } else { Err(NotACursor) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_it_was_written(newest: i64, at: i64, id: i64) {
            let cursor = Cursor { newest, after: Place { at, id } };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn what_is_no_cursor_is_refused(text in "c?1?_?[0-9+-]{0,3}_?[0-9]{0,3}_?.{0,3}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
