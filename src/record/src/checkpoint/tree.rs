//! The Merkle tree of RFC 6962, section 2.1: SHA-256, with 0x00 before a leaf and 0x01 before two nodes.

use sha2::{Digest as _, Sha256};

use crate::Hash;

const LEAF: [u8; 1] = [0];
const NODE: [u8; 1] = [1];

/// The hash of a leaf.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Hash {
    let digest: [u8; 32] = Sha256::new().chain_update(LEAF).chain_update(bytes).finalize().into();
    Hash::from(digest)
}

fn node(left: Hash, right: Hash) -> Hash {
    let parts = Sha256::new().chain_update(NODE).chain_update(left.as_bytes()).chain_update(right.as_bytes());
    let digest: [u8; 32] = parts.finalize().into();
    Hash::from(digest)
}

/// Where a tree of so many leaves is split: the largest power of two below that.
fn split(leaves: usize) -> usize {
    leaves.next_power_of_two() / 2
}

/// The root over these leaves' hashes, in their order; over none it is the hash of nothing.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of(b""),
        [one] => *one,
        several => {
            let (left, right) = several.split_at(split(several.len()));
            node(root(left), root(right))
        }
    }
}

/// What leads from the leaf in this place, from 0, to the root: each time the hash beside, from below. None where there is
/// no such leaf.
#[must_use]
pub fn path(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    let (mut part, mut index, mut path) = (leaves, index, Vec::new());
    while part.len() > 1 {
        let (left, right) = part.split_at(split(part.len()));
        if index < left.len() {
            path.push(root(right));
            part = left;
        } else {
            path.push(root(left));
            index -= left.len();
            part = right;
        }
    }
    path.reverse();
    Some(path)
}

/// The root of a tree of `size` leaves, of which this one stands at `index`, by this path. None where a path is of another
/// length in such a tree.
#[must_use]
pub fn root_by(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    // RFC 9162, section 2.1.3.2: places of this node and of the last one of its level.
    let (mut at, mut last, mut hash) = (index, size - 1, leaf);
    for beside in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            hash = node(*beside, hash);
            // A node without a neighbour goes up as it is.
            while at % 2 == 0 && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            hash = node(hash, *beside);
        }
        at /= 2;
        last /= 2;
    }
    (last == 0).then_some(hash)
}
