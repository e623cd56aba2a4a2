//! What a host attests of its stack's feed, held against the feed itself. A host alone cannot know that others were shown another one.

use document::StackPattern;
use record::Stack;
use serde_json::Value;
use ssh_key::HashAlg;

use super::{
    batch::{Batch, Row},
    settle::about,
};
use crate::{
    incidents::Kind,
    noting,
    store::{Error, Tx, live::Notice},
};

/// What a host attests of one feed.
struct Heard<'a> {
    position: u64,
    head: &'a str,
}

/// Notes where the last attestation of these vouches, by this server's key, for a feed that is not the one here. One that is behind
/// is compared once it has caught up: heads of earlier places are not kept.
pub(super) fn compare(tx: &mut dyn Tx, batch: &Batch, rows: &[Row]) -> Result<(), Error> {
    let said = |row: &'_ Row| row.notices.iter().any(|notice| feed_of(notice).is_some());
    let Some(row) = rows.iter().rev().find(|row| said(row)) else { return Ok(()) };
    let key = tx.server().key.key.public_key().fingerprint(HashAlg::Sha256).to_string();
    let heard = row.notices.iter().find_map(|notice| by_key(feed_of(notice)?, &key));
    let stack = row.stack.get(&batch.body);
    let (Some(heard), Ok(known)) = (heard, stack.parse::<Stack>()) else { return Ok(()) };
    let here =
        tx.feed(&StackPattern::from(&known))?.map_or((0, None), |feed| (feed.count, Some(feed.head.to_string())));
    let is_other = match here.0.cmp(&heard.position) {
        std::cmp::Ordering::Less => true,
        std::cmp::Ordering::Equal => here.1.is_some_and(|head| head != heard.head),
        std::cmp::Ordering::Greater => false,
    };
    if is_other {
        let incident = about(batch, Kind::OtherFeed, &batch.host)
            .with("seq", row.seq)
            .with("stack", stack)
            .with("position", heard.position)
            .with("head", heard.head)
            .with("count", here.0);
        noting::note(tx, &incident)?;
    }
    Ok(())
}

fn feed_of(notice: &Notice) -> Option<&Value> {
    match notice {
        Notice::Sweep { said, .. } => said.get("feed")?.get("feeds"),
        _ => None,
    }
}

fn by_key<'a>(feeds: &'a Value, key: &str) -> Option<Heard<'a>> {
    let one = feeds.as_array()?.iter().find(|one| one["key"] == key)?;
    Some(Heard { position: one["position"].as_u64()?, head: one["head"].as_str()? })
}
