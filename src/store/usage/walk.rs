//! Making the picture: everything that is linked, by whom, and when it was last used.
//!
//! The walk takes no hold and pauses again and again. What is linked meanwhile is told in the
//! journal, which is open by then. What cannot be listed ends it: what is not seen would count as
//! not there.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use crate::oci::{Algorithm, Digest, References, RepositoryName, Tag};
use crate::store::collect::found;
use crate::store::layout::{Layout, inside};
use crate::store::publish::is_absent;
use crate::store::{Context as _, Kind, Store, StoreError, file, link};

use super::clock::{Age, Clock};
use super::picture::{Picture, Place, Revision, stamp};
use super::table::{Id, IdMap, NONE};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
    /// Something cannot be listed or read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How long the walk works at a time, and how long it then leaves the disk to others.
const WORK: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_millis(5);

/// What a walk brought back.
pub(super) struct Survey {
    pub(super) picture: Picture,
    /// What an eviction that was killed had unlinked, but not removed.
    pub(super) remains: Vec<Id>,
    /// Tags of which it had only left what they once named.
    pub(super) husks: Vec<(Place, Tag)>,
    /// Manifests without a record of their use, by the times of their links.
    pub(super) unrecorded: Vec<(Place, Id, SystemTime)>,
    /// The same of layers that no manifest names.
    pub(super) orphans: Vec<(Place, Id, SystemTime)>,
    /// The latest time that anything bears.
    pub(super) newest: Option<Age>,
}

/// What tells whether somebody has linked something beside this process: any change of this file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Beside(Option<(u64, SystemTime)>);

impl Beside {
    pub(in crate::store) fn of(store: &Store) -> Self {
        let metadata = Layout::beside(&store.inner.root).symlink_metadata();
        Self(metadata.ok().and_then(|it| {
            let modified = it.modified().ok()?;
            Some((it.ino(), modified))
        }))
    }
}

/// Walks the whole tree. Slow on a large one. The caller knows from now on what is told the journal.
pub(super) fn survey(store: &Store, stop: &dyn Fn() -> bool) -> Result<Survey, SurveyError> {
    // What they told the journal is forgotten by now, and the walk could pass before their link is
    // there: it would be missing in the picture, and what it leads to be taken for nobody's.
    if !store.holds().wait_for_linkers(stop)? {
        return Err(SurveyError::Stopped);
    }
    let mut walk = Walk {
        store,
        stop,
        since: Instant::now(),
        survey: Survey {
            picture: Picture::default(),
            remains: Vec::new(),
            husks: Vec::new(),
            unrecorded: Vec::new(),
            orphans: Vec::new(),
            newest: None,
        },
    };
    for place in found::places(store)? {
        walk.pace()?;
        let name: Option<RepositoryName> = place.name.parse().ok();
        // Doubt counts as local: also what has a name that nobody could ask for.
        let mirror = name.filter(|name| store.kind_of(name) == Some(Kind::Mirror));
        let number = walk.survey.picture.place(&place.name, mirror.clone());
        match mirror {
            Some(mirror) => walk.mirror(number, &mirror, &place.directory)?,
            None => walk.other(number, &place.directory)?,
        }
    }
    walk.sizes()?;
    walk.left_over()?;
    Ok(walk.survey)
}

struct Walk<'a> {
    store: &'a Store,
    stop: &'a dyn Fn() -> bool,
    since: Instant,
    survey: Survey,
}

impl Walk<'_> {
    /// Leaves the disk to others now and then.
    fn pace(&mut self) -> Result<(), SurveyError> {
        if self.since.elapsed() >= WORK {
            if (self.stop)() {
                return Err(SurveyError::Stopped);
            }
            sleep(PAUSE);
            self.since = Instant::now();
        }
        Ok(())
    }

    /// The digests that have a link below a directory, and where each link is.
    fn linked(&mut self, directory: &Path) -> Result<Vec<(Digest, PathBuf)>, SurveyError> {
        let mut linked = Vec::new();
        for algorithm in file::names_in(directory)? {
            self.pace()?;
            let inner = directory.join(&algorithm);
            for hex in file::names_in(&inner)? {
                if let Ok(digest) = format!("{algorithm}:{hex}").parse() {
                    linked.push((digest, inner.join(hex).join("link")));
                }
            }
        }
        Ok(linked)
    }

    /// A repository of which nothing goes: what it links counts, and nothing else matters.
    fn other(&mut self, place: Place, directory: &Path) -> Result<(), SurveyError> {
        for (digest, path) in self.linked(&inside::layers(directory))? {
            self.pace()?;
            if let Some((id, target, _)) = self.link(&digest, &path, true)? {
                let picture = &mut self.survey.picture;
                picture.add_layer(place, id, target, Age::default());
            }
        }
        for (digest, path) in self.linked(&inside::revisions(directory))? {
            self.pace()?;
            if let Some((id, target, _)) = self.link(&digest, &path, true)? {
                let revision = Revision {
                    target,
                    used: Age::default(),
                    subject: NONE,
                    named: Box::default(),
                };
                self.survey.picture.insert_manifest(place, id, revision);
            }
        }
        Ok(())
    }

    /// Looks at a link: its number, that of the data it leads to, and its time.
    fn link(
        &mut self,
        digest: &Digest,
        path: &Path,
        read: bool,
    ) -> Result<Option<(Id, Id, SystemTime)>, SurveyError> {
        let metadata = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(None),
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(error).context("look at", path)?,
        };
        let modified = metadata.modified().unwrap_or_else(|_| SystemTime::now());
        let picture = &mut self.survey.picture;
        let id = picture.id(digest);
        // A mirror's link says what its name says; only Distribution's sha512 may lead elsewhere.
        let target = if read || digest.algorithm() != Algorithm::Sha256 {
            link::read(path)?.map_or(id, |target| picture.id(&target))
        } else {
            id
        };
        Ok(Some((id, target, modified)))
    }

    fn mirror(
        &mut self,
        place: Place,
        name: &RepositoryName,
        directory: &Path,
    ) -> Result<(), SurveyError> {
        for (digest, path) in self.linked(&inside::revisions(directory))? {
            self.pace()?;
            if let Some((id, target, modified)) = self.link(&digest, &path, true)? {
                self.manifest(place, name, &digest, (id, target, modified))?;
            }
        }
        for (digest, path) in self.linked(&inside::layers(directory))? {
            self.pace()?;
            if let Some((id, target, modified)) = self.link(&digest, &path, false)? {
                let picture = &mut self.survey.picture;
                picture.add_layer(place, id, target, Age::default());
                let repository = picture.repository(place);
                if repository.is_some_and(|it| it.orphans.contains_key(&id)) {
                    self.survey.orphans.push((place, id, modified));
                }
            }
        }
        let tags = inside::tags(directory);
        for text in file::names_in(&tags)? {
            self.pace()?;
            let Ok(tag) = text.parse::<Tag>() else {
                continue;
            };
            let current = inside::current(&tags.join(&text));
            if let Some(digest) = link::read(&current)? {
                let id = self.survey.picture.id(&digest);
                self.survey.picture.add_tag(place, tag, id);
            } else if !current.exists() {
                self.survey.husks.push((place, tag));
            }
        }
        Ok(())
    }

    fn manifest(
        &mut self,
        place: Place,
        name: &RepositoryName,
        digest: &Digest,
        (id, target, modified): (Id, Id, SystemTime),
    ) -> Result<(), SurveyError> {
        let record = self.store.used(name, digest)?;
        let newest = record.unwrap_or_else(|| Age::of(modified));
        self.survey.newest = self.survey.newest.max(Some(newest));
        if record.is_none() {
            self.survey.unrecorded.push((place, id, modified));
        }
        let stored = self.store.mirror(name).manifest(digest);
        let references = match stored {
            Ok(Some(manifest)) => References::of(&manifest.bytes).ok(),
            // Without its bytes it is nothing, and needs nothing.
            Ok(None) => Some(References::default()),
            Err(_) => None,
        };
        if references.is_none() {
            tracing::warn!(
                "{name}: the manifest {digest} cannot be read, so nothing of this repository is evicted: pull it again"
            );
        }
        let picture = &mut self.survey.picture;
        let is_doubtful = references.is_none();
        let references = references.unwrap_or_default();
        let mut named: Vec<Id> = references.named.iter().map(|it| picture.id(it)).collect();
        named.sort_unstable();
        named.dedup();
        let subject = references.subject.as_ref();
        let revision = Revision {
            target,
            used: record.unwrap_or_default(),
            subject: subject.map_or(NONE, |it| picture.id(it)),
            named: named.into(),
        };
        picture.insert_manifest(place, id, revision);
        if let Some(repository) = picture.repositories.get_mut(place as usize) {
            repository.is_doubtful |= is_doubtful;
        }
        Ok(())
    }

    /// Looks at all data that mirrors link.
    fn sizes(&mut self) -> Result<(), SurveyError> {
        for id in 0..self.survey.picture.digests.len() {
            self.pace()?;
            let id = Id::try_from(id).unwrap_or(NONE);
            if self.survey.picture.datum(id).links() > 0 {
                self.size(id)?;
            }
        }
        Ok(())
    }

    fn size(&mut self, id: Id) -> Result<(), SurveyError> {
        let Some(digest) = self.survey.picture.digests.digest(id) else {
            return Ok(());
        };
        let path = self.store.layout().blob_data(&digest);
        match path.symlink_metadata() {
            Ok(metadata) => {
                let seen = metadata.modified().map_or(0, stamp);
                self.survey.picture.set_data(id, metadata.len(), seen);
            }
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(error).context("look at", &path)?,
        }
        Ok(())
    }

    /// What a killed eviction left: it wrote down beforehand what it was about to unlink.
    fn left_over(&mut self) -> Result<(), SurveyError> {
        let path = Layout::evicting(&self.store.inner.root);
        let listed = file::read(&path, 64 << 20)?.unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed);
        for digest in listed.lines().filter_map(|line| line.parse().ok()) {
            let id = self.survey.picture.id(&digest);
            if self.survey.picture.datum(id).links() == 0 {
                self.size(id)?;
                self.survey.remains.push(id);
            }
        }
        Ok(())
    }
}

impl Survey {
    /// Gives an age to what had only a time, and to every manifest the last use of all that it
    /// leads to. Those without a record are returned: they are to get one.
    pub(super) fn date(&mut self, clock: &Clock, now: Age) -> Vec<(RepositoryName, Digest, Age)> {
        let mut unrecorded = Vec::new();
        for (place, id, modified) in self.unrecorded.drain(..) {
            let age = clock.age_of(modified);
            let repository = self.picture.repositories.get_mut(place as usize);
            let revision = repository.and_then(|it| it.revisions.get_mut(&id));
            if let Some(revision) = revision {
                revision.used = age;
            }
            let mirror = self
                .picture
                .repository(place)
                .and_then(|it| it.mirror.clone());
            if let (Some(mirror), Some(digest)) = (mirror, self.picture.digests.digest(id)) {
                unrecorded.push((mirror, digest, age));
            }
        }
        for (place, id, modified) in self.orphans.drain(..) {
            let repository = self.picture.repositories.get_mut(place as usize);
            if let Some(came) = repository.and_then(|it| it.orphans.get_mut(&id)) {
                *came = clock.age_of(modified);
            }
        }
        for repository in &mut self.picture.repositories {
            for revision in repository.revisions.values_mut() {
                revision.used = revision.used.min(now);
            }
            spread_uses(&mut repository.revisions);
        }
        unrecorded
    }
}

/// Lets every manifest have been used when anything below it was.
fn spread_uses(revisions: &mut IdMap<Revision>) {
    loop {
        let below = |revision: &Revision| {
            let named = revision.named.iter();
            let used = named.filter_map(|id| revisions.get(id).map(|it| it.used));
            used.max().unwrap_or_default()
        };
        let newer: Vec<(Id, Age)> = revisions
            .iter()
            .map(|(id, revision)| (*id, revision.used, below(revision)))
            .filter(|(_, used, below)| below > used)
            .map(|(id, _, below)| (id, below))
            .collect();
        if newer.is_empty() {
            return;
        }
        for (id, used) in newer {
            if let Some(revision) = revisions.get_mut(&id) {
                revision.used = used;
            }
        }
    }
}
