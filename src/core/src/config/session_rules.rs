//! The words of `[sessions]`: what becomes of connections from before, and of what people leave running.

use super::error::quoted;

/// What becomes of a connection that began before enforce came into force and stands on no grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeforeEnforce {
    /// It goes on until it ends by itself, or a lockdown comes.
    Keep,
    /// It ends when enforce comes into force.
    End,
}

impl BeforeEnforce {
    const ALL: [Self; 2] = [Self::Keep, Self::End];

    /// The word as in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::End => "end",
        }
    }
}

/// The choice that a word stands for.
pub(super) fn before_enforce(text: &str) -> Result<BeforeEnforce, String> {
    let found = BeforeEnforce::ALL.into_iter().find(|choice| choice.as_str() == text);
    found.ok_or_else(|| format!("{} is no choice; write \"keep\" or \"end\"", quoted(text)))
}

/// What becomes of what a person leaves running when their grant ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftBehind {
    /// It is told of in the record of the grant's end.
    Record,
    /// It is ended.
    End,
}

impl LeftBehind {
    const ALL: [Self; 2] = [Self::Record, Self::End];

    /// The word as in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::End => "end",
        }
    }
}

/// The choice that a word stands for.
pub(super) fn left_behind(text: &str) -> Result<LeftBehind, String> {
    let found = LeftBehind::ALL.into_iter().find(|choice| choice.as_str() == text);
    found.ok_or_else(|| format!("{} is no choice; write \"record\" or \"end\"", quoted(text)))
}
