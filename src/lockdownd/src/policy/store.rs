//! What the key store has to hold: exactly the keys of active grants, each with its end.

use std::collections::BTreeMap;

use record::{Account, Person};

use super::{grant::Grant, time::Now};
use crate::keys::{
    person::PersonKey,
    store::{ExpiryStyle, store_line},
};

/// The key store as it has to be now: the bytes of each account's file. No grant: no file.
#[must_use]
pub fn wanted<'a>(
    grants: impl IntoIterator<Item = &'a Grant>,
    keys_of: impl Fn(&Person) -> &'a [PersonKey],
    style: &ExpiryStyle,
    now: Now,
) -> BTreeMap<Account, Vec<u8>> {
    let mut store: BTreeMap<Account, Vec<u8>> = BTreeMap::new();
    for grant in grants.into_iter().filter(|grant| grant.is_active(now)) {
        for key in keys_of(&grant.person) {
            let line = store_line(key, grant.ends.wall, &grant.from, &grant.person, &grant.id, style);
            let file = store.entry(grant.account.clone()).or_default();
            file.extend_from_slice(line.as_bytes());
            file.push(b'\n');
        }
    }
    store
}
