//! For those who look: what was used when, and what would go next.

use std::time::{Duration, Instant, SystemTime};

use crate::oci::{Digest, RepositoryName, Tag};

use super::choose::{Kept, last_use, preview, spared};
use super::clock::{Age, Clock};
use super::{Accounts, Picture};

/// Something that would be evicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Whose it is.
    pub repository: RepositoryName,
    /// What names it, if something does.
    pub tags: Vec<Tag>,
    /// Its manifest, or a layer that belongs to none.
    pub digest: Digest,
    /// The bytes that come free when all before it are gone.
    pub frees: u64,
    /// When it was last used, as far as that is known.
    pub used: SystemTime,
}

impl Accounts {
    /// What would go first, of the repositories that `is_shown` lets through. `None` where that is
    /// not known yet.
    pub fn next(
        &self,
        kept: &Kept,
        most: usize,
        is_shown: &dyn Fn(&RepositoryName) -> bool,
    ) -> Option<Vec<Candidate>> {
        let clock = self.with_clock(|clock| *clock);
        let books = self.caught_up();
        let picture = books.picture.as_ref()?;
        let spared = spared(picture, kept);
        let mirror = |place| picture.repository(place)?.mirror.as_ref();
        let units = preview(picture, &spared, most, |unit| {
            mirror(unit.place).is_some_and(is_shown)
        });
        let candidate = |(unit, frees): (super::choose::Unit, u64)| {
            let tags = picture.repository(unit.place)?.tags.iter();
            let tags = tags.filter(|(_, named)| **named == unit.id);
            Some(Candidate {
                repository: mirror(unit.place)?.clone(),
                tags: tags.map(|(tag, _)| tag.clone()).collect(),
                digest: picture.digests.digest(unit.id)?,
                frees,
                used: wall(&clock, unit.used),
            })
        };
        Some(units.into_iter().filter_map(candidate).collect())
    }

    /// When images of a mirror were last used, as far as that is known: each by its manifest's
    /// digest.
    pub fn last_uses(&self, name: &RepositoryName, digests: &[Digest]) -> Vec<Option<LastUse>> {
        let clock = self.with_clock(|clock| *clock);
        let books = self.caught_up();
        let used = |picture: &Picture, digest: &Digest| {
            let repository = picture.repository(picture.known(name)?)?;
            repository.mirror.as_ref()?;
            let id = picture.digests.known(digest)?;
            repository.revisions.get(&id)?;
            Some(last_use(repository, id))
        };
        let used = |digest| {
            let age = used(books.picture.as_ref()?, digest)?;
            Some(LastUse::new(&clock, age))
        };
        digests.iter().map(used).collect()
    }

    /// When something of each of these mirrors was last used, as far as that is known.
    pub fn last_used(&self, names: &[RepositoryName]) -> Vec<Option<LastUse>> {
        let clock = self.with_clock(|clock| *clock);
        let books = self.caught_up();
        let used = |name| {
            let picture = books.picture.as_ref()?;
            let repository = picture.repository(picture.known(name)?)?;
            repository.mirror.as_ref()?;
            let newest = repository.revisions.values().map(|it| it.used).max()?;
            Some(LastUse::new(&clock, newest))
        };
        names.iter().map(used).collect()
    }
}

/// When something was last used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// By the age clock: of two, what was used later has the greater, and it is the same whenever one
    /// looks.
    pub age: Age,
    /// As the time of day, which two looks may find a moment apart.
    pub time: SystemTime,
}

impl LastUse {
    fn new(clock: &Clock, age: Age) -> Self {
        let time = wall(clock, age);
        Self { age, time }
    }
}

/// A point of the age clock as the time of day. Long ago it may be somewhat off: see `clock`.
fn wall(clock: &Clock, age: Age) -> SystemTime {
    let now = SystemTime::now();
    let ago: Duration = clock.age_at(Instant::now()).since(age);
    now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)
}
