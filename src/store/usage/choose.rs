//! Deciding which images go: pure, from the picture.
//!
//! An image is a manifest that no other manifest of its repository names, with all that it leads
//! to; a layer that no manifest there names is one of its own. The least recently used goes first,
//! and as many go as it takes. Counted is only what really comes free: what another image, another
//! mirror or a local repository has as well stays where it is.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::BuildHasherDefault;

use crate::oci::{Digest, ImagePattern, RepositoryName, Tag};

use super::clock::Age;
use super::picture::{Picture, Place, Repository};
use super::table::{Id, IdMap, NONE, Spread};

/// What is never evicted, whenever it was used.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// What tags of these names now name.
    pub pins: Vec<ImagePattern>,
    /// The same, one by one.
    pub pinned: Vec<(RepositoryName, Tag)>,
    /// Single manifests.
    pub held: Vec<(RepositoryName, Digest)>,
    /// Blobs that are being fetched: the images that they are for.
    pub arriving: Vec<(RepositoryName, Digest)>,
}

/// The manifests that stay, with all that they lead to.
pub(super) type Spared = HashSet<(Place, Id), BuildHasherDefault<Spread>>;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// So many bytes are to come free,
    pub(super) bytes: u64,
    /// and so many inodes.
    pub(super) inodes: u64,
    /// What was last used before this goes in any case.
    pub(super) unused_since: Option<Age>,
    /// What was used after this stays in any case.
    pub(super) spare: Age,
}

/// An image, or a layer that belongs to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unit {
    pub(super) used: Age,
    pub(super) place: Place,
    pub(super) id: Id,
}

/// What is to go, in this order.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) units: Vec<Unit>,
    /// The data that nobody links when they are gone.
    pub(super) data: Vec<Id>,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

/// What a link takes up: its directory and its file. Data takes the same.
const INODES: u64 = 2;

/// Chooses at most `most` images.
pub(super) fn choose(picture: &Picture, spared: &Spared, demand: Demand, most: usize) -> Choice {
    let mut waiting: BinaryHeap<Reverse<Unit>> = units(picture)
        .filter(|unit| unit.used < demand.spare && !spared.contains(&(unit.place, unit.id)))
        .map(Reverse)
        .collect::<Vec<_>>()
        .into();
    let mut trial = Trial::new(picture, spared);
    while let Some(Reverse(unit)) = waiting.pop() {
        let choice = &trial.choice;
        let is_due = demand.unused_since.is_some_and(|since| unit.used < since);
        let is_enough = choice.bytes >= demand.bytes && choice.inodes >= demand.inodes;
        if choice.units.len() >= most || (is_enough && !is_due) {
            break;
        }
        trial.helps = demand.inodes > 0 || is_due;
        trial.remove(unit);
        // What local repositories have as well never comes free.
        if trial.helps {
            trial.choice.units.push(unit);
        }
    }
    trial.choice
}

/// The images in the order in which they would go, if nobody came for them, with what each would
/// free when those before it are gone; `wanted` decides which of them count towards `most`.
pub(super) fn preview(
    picture: &Picture,
    spared: &Spared,
    most: usize,
    mut wanted: impl FnMut(Unit) -> bool,
) -> Vec<(Unit, u64)> {
    let mut waiting: BinaryHeap<Reverse<Unit>> = units(picture)
        .filter(|unit| !spared.contains(&(unit.place, unit.id)))
        .map(Reverse)
        .collect::<Vec<_>>()
        .into();
    let mut trial = Trial::new(picture, spared);
    let mut next = Vec::new();
    while next.len() < most
        && let Some(Reverse(unit)) = waiting.pop()
    {
        let before = trial.choice.bytes;
        trial.helps = false;
        trial.remove(unit);
        if trial.helps && wanted(unit) {
            next.push((unit, trial.choice.bytes - before));
        }
    }
    next
}

/// Every image and every layer that belongs to none, as it was last used.
pub(super) fn units(picture: &Picture) -> impl Iterator<Item = Unit> {
    picture.mirrors().flat_map(|(place, repository)| {
        let roots = repository.revisions.keys();
        let roots = roots.filter(|id| repository.namers(**id) == 0);
        let roots = roots.map(move |id| Unit {
            used: last_use(repository, *id),
            place,
            id: *id,
        });
        let orphans = repository.orphans.iter().map(move |(id, came)| Unit {
            used: *came,
            place,
            id: *id,
        });
        roots.chain(orphans)
    })
}

/// How many steps a signature of a signature is followed.
const STEPS: usize = 8;

/// What is attached to something was used when that was.
pub(super) fn last_use(repository: &Repository, id: Id) -> Age {
    let (mut used, mut at) = (Age::default(), id);
    for _ in 0..STEPS {
        let Some(revision) = repository.revisions.get(&at) else {
            break;
        };
        used = used.max(revision.used);
        at = revision.subject;
        if at == NONE {
            break;
        }
    }
    used
}

/// Tries out what becomes free, without touching the picture.
struct Trial<'a> {
    picture: &'a Picture,
    spared: &'a Spared,
    /// How many namers each name has lost.
    named: HashMap<(Place, Id), u32, BuildHasherDefault<Spread>>,
    /// How many links each data has lost.
    links: IdMap<u32>,
    choice: Choice,
    /// Whether removing the image at hand leads to anything.
    helps: bool,
}

impl<'a> Trial<'a> {
    fn new(picture: &'a Picture, spared: &'a Spared) -> Self {
        Self {
            picture,
            spared,
            named: HashMap::default(),
            links: IdMap::default(),
            choice: Choice::default(),
            helps: false,
        }
    }

    fn remove(&mut self, unit: Unit) {
        let place = unit.place;
        let Some(repository) = self.picture.repository(place) else {
            return;
        };
        let mut waiting = vec![unit.id];
        while let Some(id) = waiting.pop() {
            if let Some(layer) = repository.layer(id) {
                self.unlink(layer);
            }
            let Some(revision) = repository.revisions.get(&id) else {
                continue;
            };
            self.unlink(revision.target);
            for named in &revision.named {
                let lost = self.named.entry((place, *named)).or_default();
                *lost += 1;
                if *lost == repository.namers(*named) && !self.spared.contains(&(place, *named)) {
                    waiting.push(*named);
                }
            }
        }
    }

    fn unlink(&mut self, target: Id) {
        self.choice.inodes += INODES;
        let lost = self.links.entry(target).or_default();
        *lost += 1;
        let datum = self.picture.datum(target);
        self.helps |= datum.is_mirrored_only();
        if *lost == datum.links() {
            self.choice.data.push(target);
            self.choice.bytes += datum.size;
            self.choice.inodes += INODES;
        }
    }
}

/// Finds the manifests that stay, whenever they were used.
pub(super) fn spared(picture: &Picture, kept: &Kept) -> Spared {
    let mut spared = Spared::default();
    for (place, repository) in picture.mirrors() {
        let Some(name) = &repository.mirror else {
            continue;
        };
        let patterns = kept.pins.iter().filter(|pin| pin.fits_name(name));
        let patterns: Vec<_> = patterns.collect();
        if patterns.is_empty() {
            continue;
        }
        let tags = repository.tags.iter();
        let pinned = tags.filter(|(tag, _)| patterns.iter().any(|pin| pin.fits(name, tag)));
        spared.extend(pinned.map(|(_, id)| (place, *id)));
    }
    let pinned = |(name, tag): &(RepositoryName, Tag)| {
        let place = picture.known(name)?;
        Some((place, *picture.repository(place)?.tags.get(tag)?))
    };
    spared.extend(kept.pinned.iter().filter_map(pinned));
    let found = |(name, digest): &(RepositoryName, Digest)| {
        Some((picture.known(name)?, picture.digests.known(digest)?))
    };
    spared.extend(kept.held.iter().filter_map(found));
    // Up to the index that the image is a part of.
    let mut waiting: Vec<(Place, Id)> = kept.arriving.iter().filter_map(found).collect();
    let mut seen: HashSet<(Place, Id)> = HashSet::new();
    while let Some((place, id)) = waiting.pop() {
        let revisions = picture.repository(place).map(|it| &it.revisions);
        let namers = revisions.into_iter().flatten();
        let namers = namers.filter(|(_, revision)| revision.named.contains(&id));
        waiting.extend(
            namers
                .map(|(namer, _)| (place, *namer))
                .filter(|it| seen.insert(*it)),
        );
    }
    spared.extend(seen);
    keep_attached(picture, &mut spared);
    spared
}

/// What is attached to something that stays, stays.
fn keep_attached(picture: &Picture, spared: &mut Spared) {
    let places: HashSet<Place> = spared.iter().map(|(place, _)| *place).collect();
    for place in places {
        let Some(repository) = picture.repository(place) else {
            continue;
        };
        let mut attached: IdMap<Vec<Id>> = IdMap::default();
        for (id, revision) in &repository.revisions {
            if revision.subject != NONE {
                attached.entry(revision.subject).or_default().push(*id);
            }
        }
        if attached.is_empty() {
            continue;
        }
        let stays = spared.iter().filter(|(it, _)| *it == place);
        let mut waiting: Vec<Id> = stays.map(|(_, id)| *id).collect();
        let mut seen: HashSet<Id> = waiting.iter().copied().collect();
        while let Some(id) = waiting.pop() {
            let named = repository.revisions.get(&id).into_iter();
            let named = named.flat_map(|revision| revision.named.iter());
            for below in named {
                if repository.revisions.contains_key(below) && seen.insert(*below) {
                    waiting.push(*below);
                }
            }
            for referrer in attached.get(&id).into_iter().flatten() {
                spared.insert((place, *referrer));
                if seen.insert(*referrer) {
                    waiting.push(*referrer);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
