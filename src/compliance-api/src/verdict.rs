//! Refusals, wherever they are decided: why, in a word for programs, and a sentence that says what would work. What that is
//! over HTTP, problem.rs says.
//!
//! It never carries what an operator alone may see (paths, SQL, another client's data): those go to the log.

use serde_json::{Map, Value};

macro_rules! whys {
    ($($(#[$doc:meta])* $variant:ident => $word:literal;)*) => {
        /// Why something is refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Why {
            $($(#[$doc])* $variant,)*
        }

        impl Why {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word for programs.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

whys! {
    /// The request cannot be read.
    Malformed => "malformed";
    /// An event, of a request that can be read, is not as it has to be.
    MalformedEvent => "malformed";
    /// A review is not as it has to be.
    MalformedReview => "malformed_review";
    /// The body is of another media type.
    MediaType => "media_type";
    /// The body, or the batch, is over its bound.
    TooLarge => "too_large";
    /// The request was not there or not done in time.
    TooSlow => "too_slow";
    /// The sender has as many requests under way as it may.
    SlowDown => "slow_down";
    /// The server cannot take it now.
    Busy => "busy";
    /// The server failed.
    Internal => "internal";
    /// There is no such thing.
    NotFound => "not_found";
    /// The path does not take this method.
    Method => "method";
    /// The token opens nothing.
    BadToken => "bad_token";
    /// The token is of another role.
    Role => "role";
    /// The ledger is not enrolled.
    UnknownLedger => "unknown_ledger";
    /// Records are missing before this one.
    Gap => "gap";
    /// Other bytes stand at that place.
    Fork => "fork";
    /// Another artifact is stored under this id.
    Conflict => "conflict";
    /// A person has as many keys as may be.
    TooManyKeys => "too_many_keys";
    /// The bytes are no record.
    NotCanonical => "not_canonical";
    /// The signature does not hold.
    NotAuthentic => "not_authentic";
    /// The record is another host's.
    WrongHost => "wrong_host";
    /// The event says otherwise than the record.
    Mismatch => "mismatch";
    /// No host would accept the document; the judge's word says why.
    Refused => "refused";
    /// No host can accept the document yet; the judge's word says why.
    Waits => "waits";
    /// The feed holds fewer documents than the host says.
    FeedShorter => "feed_shorter";
    /// This server keeps no documents.
    NoStack => "no_stack";
}

/// One refusal.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a refusal that is not answered refuses nothing"]
pub struct Verdict {
    pub(crate) why: Why,
    pub(crate) detail: String,
    pub(crate) word: &'static str,
    pub(crate) more: Map<String, Value>,
}

impl Verdict {
    /// A refusal for this reason, with a sentence for people.
    pub fn new(why: Why, detail: impl Into<String>) -> Self {
        Self { why, detail: detail.into(), word: why.as_str(), more: Map::new() }
    }

    /// The request cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Why::Malformed, detail)
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Why::NotFound, detail)
    }

    /// The request may be good; the server cannot take it now.
    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(Why::Busy, detail)
    }

    /// The body is over its bound.
    pub fn too_large(most: usize) -> Self {
        Self::new(Why::TooLarge, format!("the body is over {most} bytes; send half as many events at a time"))
    }

    /// The sender has as many requests under way as it may.
    pub fn slow_down(most: usize) -> Self {
        let detail =
            format!("{most} requests from this address are under way already; send this one again a little later");
        Self::new(Why::SlowDown, detail)
    }

    /// The token opens nothing.
    pub fn bad_token(detail: impl Into<String>) -> Self {
        Self::new(Why::BadToken, detail)
    }

    /// The server failed. What went wrong is logged here, and not told.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(error = %crate::describe::describe(error), "a request failed");
        Self::new(Why::Internal, "the server failed at this; its log says why; try again later")
    }

    /// The same with a more exact word for programs.
    pub fn word(self, word: &'static str) -> Self {
        Self { word, ..self }
    }

    /// Adds a member beside the standard ones.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// Why.
    #[must_use]
    pub fn why(&self) -> Why {
        self.why
    }

    /// The word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.word
    }

    /// The sentence for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// A member beside the standard ones.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.more.get(name)
    }
}
