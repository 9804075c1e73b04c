//! Digests as small numbers, so that a picture of a million links fits into memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashTable;

use crate::oci::{Algorithm, Digest};

/// A digest's number in one [`Table`].
pub(super) type Id = u32;

/// Where there is no digest.
pub(super) const NONE: Id = Id::MAX;

/// Something for each of some digests.
pub(super) type IdMap<T> = HashMap<Id, T, BuildHasherDefault<Spread>>;

/// Numbers are ours and dense: nobody can choose them so that they collide, and spreading them is
/// enough.
#[derive(Debug, Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

/// Every digest that was ever met, once, and its number.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The first 32 bytes of each hash, which is all of a sha256.
    starts: Vec<[u8; 32]>,
    /// Those that are not sha256.
    others: IdMap<Digest>,
    index: HashTable<Id>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// A digest's number; a new one gets the next.
    pub(super) fn id(&mut self, digest: &Digest) -> Id {
        if let Some(id) = self.known(digest) {
            return id;
        }
        // More than four thousand million digests are no tree that a disk could hold.
        let id = Id::try_from(self.starts.len()).unwrap_or(NONE);
        let start = start_of(digest);
        self.starts.push(start);
        if digest.algorithm() != Algorithm::Sha256 {
            self.others.insert(id, digest.clone());
        }
        let starts = &self.starts;
        self.index.insert_unique(hash_of(&start), id, |id| {
            hash_of(starts.get(*id as usize).unwrap_or(&[0; 32]))
        });
        id
    }

    /// A digest's number, if it was met before.
    pub(super) fn known(&self, digest: &Digest) -> Option<Id> {
        let start = start_of(digest);
        let is_plain = digest.algorithm() == Algorithm::Sha256;
        let same = |id: &Id| {
            self.starts.get(*id as usize) == Some(&start)
                && if is_plain {
                    !self.others.contains_key(id)
                } else {
                    self.others.get(id) == Some(digest)
                }
        };
        self.index.find(hash_of(&start), same).copied()
    }

    /// The digest of a number.
    pub(super) fn digest(&self, id: Id) -> Option<Digest> {
        if let Some(other) = self.others.get(&id) {
            return Some(other.clone());
        }
        let start = self.starts.get(id as usize)?;
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in start {
            for half in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(half), 16));
            }
        }
        text.parse().ok()
    }
}

fn start_of(digest: &Digest) -> [u8; 32] {
    let mut start = [0; 32];
    let half = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        _ => byte.wrapping_sub(b'a').wrapping_add(10),
    };
    for (byte, pair) in start
        .iter_mut()
        .zip(digest.hex().as_bytes().chunks_exact(2))
    {
        *byte = half(pair[0]) << 4 | half(pair[1]);
    }
    start
}

/// What is hashed is a hash; who makes two that begin alike gains a slow look-up of his own.
fn hash_of(start: &[u8; 32]) -> u64 {
    let mut hasher = Spread::default();
    for word in start.chunks_exact(8) {
        hasher.write_u64(u64::from_le_bytes(word.try_into().unwrap_or_default()));
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_digest_has_one_number_whatever_its_algorithm() {
        let mut table = Table::default();
        let plain: Vec<Digest> = (0..1000_u32)
            .map(|n| Digest::of(&n.to_le_bytes()))
            .collect();
        let hex = plain[0].hex();
        // Begins like a sha256 that is there too.
        let long: Digest = format!("sha512:{hex}{hex}").parse().unwrap();
        let longer: Digest = format!("sha512:{hex}{}", plain[1].hex()).parse().unwrap();
        let all: Vec<&Digest> = plain.iter().chain([&long, &longer]).collect();
        let ids: Vec<Id> = all.iter().map(|digest| table.id(digest)).collect();
        assert_eq!(ids, (0..1002).collect::<Vec<_>>());
        for (digest, id) in all.iter().zip(ids) {
            assert_eq!((table.id(digest), table.known(digest)), (id, Some(id)));
            assert_eq!(table.digest(id).as_ref(), Some(*digest));
        }
        assert_eq!(table.len(), 1002);
        assert_eq!(table.known(&Digest::of(b"x")), None);
    }
}
