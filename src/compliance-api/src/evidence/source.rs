//! Who states things, what proves it, and what of it is evidence.

use serde::Serialize;
use utoipa::ToSchema;

use super::REVIEW_COMPLETED;

/// Who keeps or sends a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// An instance: its ledger is its own.
    Host,
    /// An application.
    Client,
    /// A person, by their signed reviews.
    Person,
    /// This server.
    Server,
}

impl SourceKind {
    /// The word, as in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Client => "client",
            Self::Person => "person",
            Self::Server => "server",
        }
    }

    /// What proves that an artifact is what this source stated.
    #[must_use]
    pub fn proof(self) -> &'static str {
        match self {
            Self::Host => "each is signed with the host's own key and chained, and this server's receipt covers it",
            Self::Client => {
                "this server's receipt alone: the client signs nothing, so it shows that the artifact is unchanged since \
                 it was received, not that the client stated it"
            }
            Self::Person => "each is signed with the person's own SSH key, and this server's receipt covers it",
            Self::Server => "each is signed with this server's key and chained",
        }
    }
}

/// Whether an artifact of this type is evidence when this source states it. A host that was broken into can sign a
/// record of any type; it cannot review itself.
#[must_use]
pub fn counts(kind: &str, source: SourceKind) -> bool {
    match source {
        SourceKind::Server => false,
        SourceKind::Person => kind == REVIEW_COMPLETED,
        SourceKind::Host => kind != REVIEW_COMPLETED,
        SourceKind::Client => kind != REVIEW_COMPLETED && kind.parse::<record::ArtifactType>().is_err(),
    }
}
