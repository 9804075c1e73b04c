//! How much mirrored content is kept: what is too much, and how much of it has to go. Pure.

use std::time::Duration;

use crate::oci::{Digest, ImagePattern, Target};
use crate::store::{Order, Space};

/// How mirrored content is kept: `cache` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// Beyond so many bytes the least recently used image goes.
    pub max_size: Option<u64>,
    /// The same, by what is left on the disk.
    pub min_free: MinFree,
    /// An image that nobody pulled for this long goes.
    pub keep_for: Option<Duration>,
    /// Images that never go.
    pub pins: Vec<ImagePattern>,
    /// Manifests that never go, as tags are held at them.
    pub holds: Vec<(Target, Digest)>,
}

/// How much of the disk is to stay free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinFree {
    /// So many bytes; 0 for no limit.
    Bytes(u64),
    /// So many hundredths of the file system, of its bytes and of its inodes.
    Percent(u8),
}

impl Default for Keeping {
    /// Everything, for as long as the disk has room.
    fn default() -> Self {
        Self {
            max_size: None,
            min_free: MinFree::Percent(10),
            keep_for: None,
            pins: Vec::new(),
            holds: Vec::new(),
        }
    }
}

/// How things stand.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// What mirrors hold, in bytes, if that is known yet.
    pub(super) cached: Option<u64>,
    /// What fills that are under way will add to that.
    pub(super) promised: u64,
    /// How much of it is not on the disk yet.
    pub(super) missing: u64,
    /// How many fills these are.
    pub(super) fills: u64,
    pub(super) space: Space,
}

impl Standing {
    /// The same without the fills that are under way: what is still to come has asked for its room
    /// itself, and may never come.
    pub(super) fn without_fills(self) -> Self {
        Self {
            promised: 0,
            missing: 0,
            fills: 0,
            ..self
        }
    }
}

/// What is too little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shortage {
    /// Bytes that are held beyond `maxsize`,
    pub(super) over: u64,
    /// bytes that the disk lacks of `minfree`,
    pub(super) bytes: u64,
    /// and inodes.
    pub(super) inodes: u64,
    /// Not even a tenth of `minfree` is left: nothing more is stored.
    pub(super) is_hard: bool,
}

/// What a fill makes: the directories and files of its data and of its link.
const INODES: u64 = 4;

impl Shortage {
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the disk is what is short.
    pub(super) fn is_of_disk(&self) -> bool {
        self.bytes > 0 || self.inodes > 0 || self.is_hard
    }
}

impl Keeping {
    /// What is too little.
    pub(super) fn shortage(&self, at: &Standing) -> Shortage {
        let held = at.cached.map(|cached| cached.saturating_add(at.promised));
        let over = self.max_size.zip(held);
        let over = over.map_or(0, |(most, held)| held.saturating_sub(most));
        let space = &at.space;
        if space.size == 0 {
            // A file system that does not tell.
            return Shortage {
                over,
                ..Shortage::default()
            };
        }
        let marks = self.marks(space);
        let coming = INODES.saturating_mul(at.fills);
        let lacks = |free: u64, coming: u64, mark: u64| {
            let lacks = mark.saturating_add(coming).saturating_sub(free);
            let is_hard = free < coming.saturating_add(mark / 10);
            (lacks, is_hard)
        };
        let (bytes, is_hard) = lacks(space.free, at.missing, marks.0);
        let (inodes, inodes_are_hard) = if space.inodes == 0 {
            (0, false)
        } else {
            lacks(space.free_inodes, coming, marks.1)
        };
        Shortage {
            over,
            bytes,
            inodes,
            is_hard: is_hard || inodes_are_hard,
        }
    }

    /// How many bytes and inodes are to stay free.
    fn marks(&self, space: &Space) -> (u64, u64) {
        let share = |of: u64, part: u64, whole: u64| {
            let share = u128::from(of) * u128::from(part) / u128::from(whole.max(1));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        match self.min_free {
            MinFree::Percent(percent) => {
                let percent = u64::from(percent);
                (
                    share(space.size, percent, 100),
                    share(space.inodes, percent, 100),
                )
            }
            // Of the inodes the same share.
            MinFree::Bytes(bytes) => {
                let bytes = bytes.min(space.size);
                (bytes, share(space.inodes, bytes, space.size))
            }
        }
    }

    /// What is to be evicted against a shortage: somewhat more, so that the next fill need not
    /// wait for the next eviction.
    pub(super) fn order(&self, shortage: &Shortage, space: &Space) -> Order {
        let (bytes, inodes) = self.marks(space);
        let more = |lacks: u64, more: u64| if lacks == 0 { 0 } else { lacks + more };
        let over = more(shortage.over, self.max_size.unwrap_or(0) / 20);
        let lacks = more(shortage.bytes, bytes / 10);
        Order {
            bytes: over.max(lacks),
            inodes: more(shortage.inodes, inodes / 10),
            unused_for: None,
            why: if over >= lacks && over > 0 {
                "the cache has reached cache.maxsize"
            } else {
                "the disk has reached cache.minfree"
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeping(max_size: Option<u64>, min_free: MinFree) -> Keeping {
        Keeping {
            max_size,
            min_free,
            ..Keeping::default()
        }
    }

    fn standing(cached: u64, missing: u64, free: u64) -> Standing {
        Standing {
            cached: Some(cached),
            promised: missing,
            missing,
            fills: u64::from(missing > 0),
            space: Space {
                size: 10_000,
                free,
                inodes: 0,
                free_inodes: 0,
            },
        }
    }

    #[test]
    fn a_cache_may_be_as_large_as_it_says_with_what_is_on_its_way() {
        let keeping = keeping(Some(1000), MinFree::Bytes(0));
        for (cached, missing, over) in [(900, 100, 0), (900, 101, 1), (1000, 0, 0), (1200, 0, 200)]
        {
            let shortage = keeping.shortage(&standing(cached, missing, 9000));
            assert_eq!(shortage.over, over);
            assert!(!shortage.is_of_disk());
            let order = keeping.order(&shortage, &standing(0, 0, 9000).space);
            // Down to 95 %.
            assert_eq!(order.bytes, if over == 0 { 0 } else { over + 50 });
        }
        let unknown = Standing {
            cached: None,
            ..standing(0, 5000, 9000)
        };
        assert!(keeping.shortage(&unknown).is_none());
    }

    #[test]
    fn what_is_left_on_the_disk_is_a_soft_mark_with_a_hard_floor() {
        for min_free in [MinFree::Bytes(1000), MinFree::Percent(10)] {
            let keeping = keeping(None, min_free);
            for (free, missing, bytes, is_hard) in [
                (1000, 0, 0, false),
                (1500, 500, 0, false),
                (1500, 501, 1, false),
                (600, 500, 900, false),
                (599, 500, 901, true),
                (100, 500, 1400, true),
            ] {
                let at = standing(0, missing, free);
                let shortage = keeping.shortage(&at);
                assert_eq!((shortage.bytes, shortage.is_hard), (bytes, is_hard));
                let order = keeping.order(&shortage, &at.space);
                assert_eq!(order.bytes, if bytes == 0 { 0 } else { bytes + 100 });
            }
        }
        let none = keeping(None, MinFree::Bytes(0));
        assert!(none.shortage(&standing(0, 500, 500)).is_none());
        assert!(none.shortage(&standing(0, 501, 500)).is_hard);
    }

    #[test]
    fn inodes_count_as_bytes_do() {
        let inodes = |free_inodes| Standing {
            space: Space {
                inodes: 1000,
                free_inodes,
                ..standing(0, 0, 9999).space
            },
            fills: 1,
            ..standing(0, 0, 9999)
        };
        for min_free in [MinFree::Bytes(1000), MinFree::Percent(10)] {
            let keeping = keeping(None, min_free);
            assert!(keeping.shortage(&inodes(104)).is_none());
            let shortage = keeping.shortage(&inodes(60));
            assert_eq!((shortage.inodes, shortage.is_hard), (44, false));
            assert_eq!(keeping.order(&shortage, &inodes(60).space).inodes, 54);
            assert!(keeping.shortage(&inodes(13)).is_hard);
        }
    }

    #[test]
    fn what_fills_were_promised_is_short_of_nothing_once_they_do_not_count() {
        let at = Standing {
            cached: Some(900),
            promised: 5000,
            missing: 4000,
            fills: 20,
            space: Space {
                size: 10_000,
                free: 1000,
                inodes: 1000,
                free_inodes: 100,
            },
        };
        let keeping = keeping(Some(900), MinFree::Percent(10));
        let all = keeping.shortage(&at);
        assert_eq!((all.over, all.bytes, all.inodes), (5000, 4000, 80));
        assert!(keeping.shortage(&at.without_fills()).is_none());
        // What is short without them is so all the same.
        let short = Standing {
            cached: Some(907),
            space: Space {
                free: 995,
                free_inodes: 97,
                ..at.space
            },
            ..at
        };
        let short = keeping.shortage(&short.without_fills());
        assert_eq!((short.over, short.bytes, short.inodes), (7, 5, 3));
    }

    #[test]
    fn a_file_system_that_tells_nothing_sets_no_limit() {
        let keeping = keeping(None, MinFree::Percent(100));
        let at = Standing {
            space: Space::default(),
            ..standing(9, 9, 0)
        };
        assert!(keeping.shortage(&at).is_none());
    }
}
