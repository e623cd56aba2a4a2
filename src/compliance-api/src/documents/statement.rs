//! The server's signed word on what a feed holds.

use document::{Document, Envelope, Feed, IsFeed, Moment, Namespace, Organization, V1};
use record::{Hash, Stack};
use ssh_key::HashAlg;

use crate::store::{Error, ServerKey};

/// States that the feed of this stack holds so many documents, with this head of their chain.
pub(super) fn state(
    key: &ServerKey,
    organization: &Organization,
    stack: &Stack,
    (count, head): (u64, Hash),
    now: Moment,
) -> Result<Envelope, Error> {
    let unsound = |why: String| Error::Unsound(format!("a feed that cannot be stated: {why}"));
    let feed = Feed {
        count,
        head,
        issued_at: now,
        organization: organization.clone(),
        stack: stack.clone(),
        kind: IsFeed,
        v: V1,
    };
    let document = Document::new(feed).map_err(|why| unsound(why.to_string()))?;
    let namespace = Namespace::Of(document.kind()).as_str();
    let signature = key.key.sign(namespace, HashAlg::Sha512, document.line().as_bytes());
    let armored = signature.and_then(|signature| record::write_armored(&signature));
    let armored = armored.map_err(|why| unsound(why.to_string()))?;
    Envelope::new(document, vec![armored]).map_err(|why| unsound(why.to_string()))
}
