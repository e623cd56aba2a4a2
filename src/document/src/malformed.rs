//! Why something is no document: it has no signers then, and no effect.

/// What is wrong with its form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Over a bound.
    #[error("{what} has {given} bytes, and at most {most} are taken")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// How long it is.
        given: usize,
        /// The bound.
        most: usize,
    },
    /// Over [`MAX_SIGNATURES`](crate::MAX_SIGNATURES).
    #[error("it has {0} signatures, and at most {max} are taken: leave out those that do not count", max = crate::MAX_SIGNATURES)]
    TooManySignatures(usize),
    /// Not JSON, or a member that is missing, unknown, there twice or not as it has to be.
    #[error("it cannot be read: {0}")]
    Json(String),
    /// A type that this version does not know.
    #[error("its type {0:?} is not known: roster, grant, revoke, lockdown, lift, session and feed are")]
    Kind(String),
    /// The same object, written otherwise.
    #[error(
        "it is not in canonical form, which `jq -cjS .` prints: members sorted, lists of names sorted without repetition, no white space, no member twice"
    )]
    NotCanonical,
    /// A member that says what cannot be.
    #[error("{0}")]
    Shape(String),
}

impl Malformed {
    pub(crate) fn shape(what: impl Into<String>) -> Self {
        Self::Shape(what.into())
    }

    /// What serde says, cut, and with what it quotes of the input made harmless.
    pub(crate) fn json(error: &serde_json::Error) -> Self {
        const MOST: usize = 300;
        let text = error.to_string();
        Self::Json(record::escape(text.as_bytes()).chars().take(MOST).collect())
    }
}
