//! Pieces of data as small numbers, with their sizes and how many images they are part of.

use std::collections::HashMap;

use crate::oci::Digest;
use crate::store::Kind;

/// A piece's number.
pub(super) type Number = u32;

/// A piece of data.
#[derive(Clone, Debug)]
pub(super) struct Datum {
    digest: Digest,
    /// In bytes.
    pub(super) size: u64,
    /// How many local images it is part of,
    pub(super) local: u32,
    /// and how many mirrored ones.
    pub(super) mirrors: u32,
}

impl Datum {
    pub(super) fn uses(&self) -> u32 {
        self.local + self.mirrors
    }

    fn count(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Local => &mut self.local,
            Kind::Mirror => &mut self.mirrors,
        }
    }
}

/// What there is nothing of.
static NOTHING: std::sync::LazyLock<Datum> = std::sync::LazyLock::new(|| Datum {
    digest: Digest::of(b""),
    size: 0,
    local: 0,
    mirrors: 0,
});

/// All pieces that some image is made of.
#[derive(Debug, Default)]
pub(super) struct Data {
    numbers: HashMap<Digest, Number>,
    pieces: Vec<Datum>,
    free: Vec<Number>,
    /// What nothing may be made of any more.
    doubtful: Vec<Number>,
}

impl Data {
    /// The number of a piece that is so large.
    pub(super) fn number(&mut self, digest: &Digest, size: u64) -> Number {
        if let Some(number) = self.numbers.get(digest) {
            if let Some(datum) = self.pieces.get_mut(*number as usize) {
                datum.size = size;
            }
            return *number;
        }
        let datum = Datum {
            digest: digest.clone(),
            size,
            local: 0,
            mirrors: 0,
        };
        let number = if let Some(number) = self.free.pop() {
            if let Some(place) = self.pieces.get_mut(number as usize) {
                *place = datum;
            }
            number
        } else {
            self.pieces.push(datum);
            // More than four thousand million pieces are no tree that a disk could hold.
            Number::try_from(self.pieces.len() - 1).unwrap_or(Number::MAX)
        };
        self.numbers.insert(digest.clone(), number);
        self.doubtful.push(number);
        number
    }

    pub(super) fn get(&self, number: Number) -> &Datum {
        self.pieces.get(number as usize).unwrap_or(&NOTHING)
    }

    /// All that are in use.
    pub(super) fn all(&self) -> impl Iterator<Item = &Datum> {
        self.pieces.iter().filter(|datum| datum.uses() > 0)
    }

    /// An image is made of these.
    pub(super) fn add(&mut self, parts: &[Number], kind: Kind) {
        for part in parts {
            if let Some(datum) = self.pieces.get_mut(*part as usize) {
                *datum.count(kind) += 1;
            }
        }
    }

    /// An image that was made of these is gone.
    pub(super) fn remove(&mut self, parts: &[Number], kind: Kind) {
        for part in parts {
            if let Some(datum) = self.pieces.get_mut(*part as usize) {
                let count = datum.count(kind);
                *count = count.saturating_sub(1);
                if datum.uses() == 0 {
                    self.doubtful.push(*part);
                }
            }
        }
    }

    /// Forgets what nothing is made of.
    pub(super) fn tidy(&mut self) {
        for number in std::mem::take(&mut self.doubtful) {
            let datum = self.get(number);
            if datum.uses() == 0 && self.numbers.get(&datum.digest) == Some(&number) {
                let digest = datum.digest.clone();
                self.numbers.remove(&digest);
                self.free.push(number);
            }
        }
    }
}
