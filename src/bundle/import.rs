//! Taking images in: content first, all of it verified before anything is linked; then image by
//! image, links, manifests, and the tag last.
//!
//! A process that is killed leaves no tag that names something that is not whole. What it has
//! stored by then is used when the same is imported again.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use crate::oci::{Digest, Hasher, Image, Tag};
use crate::registry::Names;
use crate::store::{Kind, Push, Repository, Staged, Store, StoreError, TagState};

use super::along::{Expected, List};
use super::archive::{Archive, Found, Listed, Wanted};
use super::error::{ArchiveError, Bad, ImportError, Refusal};
use super::place::{Home, Places};
use super::taken::{Done, Taken, shown};
use super::{CHUNK, Watch, in_parallel, tar, workers};

/// How often an image is tried whose content is collected as fast as it is brought.
const TRIES: usize = 5;

/// How many links of an image are written at a time: each waits for the disk.
const LINKERS: usize = 8;

/// What an import is to do.
#[derive(Clone, Copy)]
pub struct Import<'a> {
    /// Where to.
    pub store: &'a Store,
    /// Which name means what.
    pub names: &'a Names,
    /// Where from.
    pub archive: &'a Archive,
    /// Replace pushed tags, and tags that were checked later.
    pub force: bool,
    /// The name of the only image.
    pub name: Option<&'a Image>,
}

/// An import that has been thought through: what it takes is known.
pub struct Ready<'a> {
    import: Import<'a>,
    /// What is attached to others comes after them.
    images: Vec<Planned<'a>>,
    lists: Vec<(Repository, &'a List)>,
    jobs: Vec<Wanted>,
    checks: Vec<Digest>,
    /// How many bytes are to be written.
    pub bytes: u64,
    /// How many bytes are to be read again, since they are in the store only.
    pub checked_bytes: u64,
    /// How many blobs are to be written.
    pub new_blobs: usize,
    /// How many blobs are here already.
    pub present: usize,
    buffers: Mutex<Vec<Vec<u8>>>,
    damaged: Mutex<HashSet<Digest>>,
}

struct Planned<'a> {
    found: &'a Found,
    name: String,
    home: Result<Home, Done>,
}

impl Planned<'_> {
    /// Whether the image to which it is attached did not come in after all.
    fn lacks_subject(&self) -> Result<bool, StoreError> {
        match (&self.found.subject, &self.home) {
            (Some(subject), Ok(home)) => Ok(!home.repository.has_manifest(subject)?),
            _ => Ok(false),
        }
    }
}

impl<'a> Import<'a> {
    /// Finds out what is to be done. Writes nothing.
    pub fn plan(self) -> Result<Ready<'a>, ImportError> {
        let images = &self.archive.images;
        let of_one = images.iter().map(Found::digest).collect::<HashSet<_>>();
        if self.name.is_some() && of_one.len() > 1 {
            return Err(ImportError::As(images.len()));
        }
        // One image of several names gets only the one that it is given.
        let count = if self.name.is_some() { 1 } else { images.len() };
        let mut ready = Ready {
            import: self,
            images: Vec::new(),
            lists: Vec::new(),
            jobs: Vec::new(),
            checks: Vec::new(),
            bytes: 0,
            checked_bytes: 0,
            new_blobs: 0,
            present: 0,
            buffers: Mutex::default(),
            damaged: Mutex::default(),
        };
        let mut seen = HashSet::new();
        let mut expected = Expected::default();
        for found in images[..count].iter().chain(&self.archive.attached) {
            if found.subject.is_some() && !expected.has_subject_of(found) {
                continue;
            }
            let home = self.home(found)?;
            let mut planned = Planned {
                found,
                name: shown(found, home.as_ref().ok()),
                home,
            };
            if planned.home.is_ok()
                && let Some(refusal) = ready.add(found, &mut seen)?
            {
                planned.home = Err(Done::Refused(refusal));
            }
            if let Ok(home) = &planned.home {
                expected.add(found, &home.repository);
            }
            ready.images.push(planned);
        }
        let lists = self.archive.lists.iter();
        let lists = lists.filter_map(|list| Some((expected.mirror_of(list)?, list)));
        ready.lists = lists.collect();
        // The longest first, so that nobody is left alone with one at the end.
        let size = |job: &Wanted| job.span.map_or(0, |span| span.size);
        ready.jobs.sort_by_key(|job| Reverse(size(job)));
        Ok(ready)
    }

    /// Where an image is to go, or why it is not.
    fn home(self, found: &Found) -> Result<Result<Home, Done>, StoreError> {
        let places = Places {
            store: self.store,
            names: self.names,
        };
        let home = match self.name {
            Some(name) => places.given(name),
            None => places.of(&found.named),
        };
        let mut home = match home {
            Ok(home) => home,
            Err(refusal) => return Ok(Err(Done::Refused(refusal))),
        };
        if found.subject.is_some() {
            // It follows its image, and keeps its own tag.
            home.tag = found.named.tag().cloned();
            home.hides = None;
        }
        Ok(match self.keeps_out(&home, found.digest())? {
            Some(done) => Err(done),
            None => Ok(home),
        })
    }

    /// Whether the tag here is to stay what it is.
    fn keeps_out(self, home: &Home, digest: Option<&Digest>) -> Result<Option<Done>, StoreError> {
        let (Some(tag), Some(digest), false) = (&home.tag, digest, self.force) else {
            return Ok(None);
        };
        let repository = &home.repository;
        let Some(state) = repository.tag_state(tag)? else {
            return Ok(None);
        };
        if state.digest == *digest {
            return Ok(None);
        }
        Ok(match repository.kind() {
            Kind::Local => Some(Done::Refused(Refusal::Taken(state.digest))),
            Kind::Mirror if state.checked > home.checked.unwrap_or(UNIX_EPOCH) => Some(Done::Newer),
            Kind::Mirror => None,
        })
    }
}

impl Ready<'_> {
    /// Notes what an image needs, if all of it can be had.
    fn add(
        &mut self,
        found: &Found,
        seen: &mut HashSet<Digest>,
    ) -> Result<Option<Refusal>, StoreError> {
        let store = self.import.store;
        let mut missing = Vec::new();
        let mut new = Vec::new();
        for wanted in &found.blobs {
            let here = store.open_data(&wanted.digest)?;
            match (wanted.span, here) {
                (None, None) => missing.push(wanted.digest.clone()),
                (span, here) => new.push((wanted, span, here.map(|blob| blob.size()))),
            }
        }
        if found.manifests.len() == 1 && found.absent > 0 {
            return Ok(Some(Refusal::Empty));
        }
        if let Some(first) = missing.first() {
            return Ok(Some(Refusal::Missing {
                missing: first.clone(),
                more: missing.len() - 1,
                since: self.import.archive.since,
            }));
        }
        for (wanted, span, here) in new {
            if !seen.insert(wanted.digest.clone()) {
                continue;
            }
            match (span, here) {
                (Some(span), here) if here != Some(span.size) => {
                    self.bytes += span.size;
                    self.new_blobs += 1;
                    self.jobs.push(wanted.clone());
                }
                (Some(_), _) => self.present += 1,
                (None, here) => {
                    self.checked_bytes += here.unwrap_or_default();
                    self.present += 1;
                    self.checks.push(wanted.digest.clone());
                }
            }
        }
        Ok(None)
    }

    /// The room that it takes on a disk, in bytes, with its small files.
    fn room(&self) -> u64 {
        const BLOCK: u64 = 4096;
        let blocks = self.jobs.iter().filter_map(|job| job.span);
        let blobs: u64 = blocks.map(|it| it.size.next_multiple_of(BLOCK)).sum();
        let links = self
            .images
            .iter()
            .map(|it| it.found.blobs.len() + 4)
            .sum::<usize>();
        blobs + links as u64 * BLOCK
    }

    /// Takes everything in. `free` is how much room there is, if that is known.
    ///
    /// An error means that no image has been taken in.
    pub fn run(&self, free: Option<u64>, watch: Watch<'_>) -> Result<Vec<Taken>, ImportError> {
        let needed = self.room();
        if let Some(free) = free.filter(|free| *free < needed && !self.jobs.is_empty()) {
            return Err(ImportError::NoRoom { needed, free });
        }
        in_parallel(&self.jobs, workers(), |job| self.bring(job, watch))?;
        in_parallel(&self.checks, workers(), |digest| self.check(digest, watch))?;
        let mut all = Vec::new();
        for planned in &self.images {
            if (watch.stop)() {
                return Err(ImportError::Stopped);
            }
            if planned.lacks_subject()? {
                continue;
            }
            let done = match &planned.home {
                Ok(home) => self.image(planned.found, home, watch)?,
                Err(done) => done.clone(),
            };
            all.push(Taken {
                name: planned.name.clone(),
                subject: planned.found.subject.clone(),
                absent: planned.found.absent,
                done,
            });
        }
        for (repository, list) in &self.lists {
            list.keep(repository)?;
        }
        Ok(all)
    }

    /// Copies one blob from the archive into the store, where it is nobody's yet.
    fn bring(&self, job: &Wanted, watch: Watch<'_>) -> Result<(), ImportError> {
        let store = self.import.store;
        let Some(span) = job.span else { return Ok(()) };
        let mut staged = store.stage_brought(&job.digest)?;
        let kept = self.fill(&mut staged, job, span, watch);
        let kept = kept.and_then(|()| Ok(store.keep_brought(&staged, &job.digest)?));
        if kept.is_err() {
            // What went wrong is said already.
            drop(staged.discard());
        }
        kept
    }

    fn fill(
        &self,
        staged: &mut Staged,
        job: &Wanted,
        span: tar::Span,
        watch: Watch<'_>,
    ) -> Result<(), ImportError> {
        self.import.archive.read(span, &self.buffers, |piece| {
            if (watch.stop)() {
                return Err(ImportError::Stopped);
            }
            staged.append(piece)?;
            (watch.moved)(piece.len() as u64);
            Ok(())
        })?;
        if staged.matches(&job.digest)? {
            Ok(())
        } else {
            Err(ImportError::Archive(Bad::Digest.at(&job.entry)))
        }
    }

    /// Looks whether a blob that is in the store only is what its digest says.
    fn check(&self, digest: &Digest, watch: Watch<'_>) -> Result<(), ImportError> {
        let mut hasher = Hasher::new(digest.algorithm());
        let mut offset = 0;
        if let Some(blob) = self.import.store.open_data(digest)? {
            while offset < blob.size() {
                if (watch.stop)() {
                    return Err(ImportError::Stopped);
                }
                let bytes = blob.read_at(offset, CHUNK).map_err(ArchiveError::Io)?;
                if bytes.is_empty() {
                    break;
                }
                hasher.update(&bytes);
                (watch.moved)(bytes.len() as u64);
                offset += bytes.len() as u64;
            }
        }
        if hasher.finish() != *digest {
            let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
            damaged.insert(digest.clone());
        }
        Ok(())
    }

    /// Makes an image of the archive a repository's.
    fn image(&self, found: &Found, home: &Home, watch: Watch<'_>) -> Result<Done, ImportError> {
        if let Some(digest) = self.damaged_of(found) {
            return Ok(Done::Refused(Refusal::Damaged(digest)));
        }
        for _ in 0..TRIES {
            match self.try_image(found, home, watch) {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {}
                // One image's trouble is not that of the others, but for a disk that is full.
                Err(ImportError::Store(error @ StoreError::WrongKind(..))) => {
                    return Ok(Done::Refused(Refusal::Store(Arc::new(error))));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Done::Refused(Refusal::Vanished))
    }

    fn damaged_of(&self, found: &Found) -> Option<Digest> {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let mut blobs = found.blobs.iter().map(|wanted| &wanted.digest);
        blobs.find(|digest| damaged.contains(*digest)).cloned()
    }

    /// `None` where a collection took something away in between.
    fn try_image(
        &self,
        found: &Found,
        home: &Home,
        watch: Watch<'_>,
    ) -> Result<Option<Done>, ImportError> {
        let repository = &home.repository;
        let already = is_here(found, home)?;
        in_parallel(&found.blobs, LINKERS, |wanted| {
            if !repository.link_blob(&wanted.digest)? {
                let unseen = Watch {
                    moved: &|_| (),
                    ..watch
                };
                self.bring(wanted, unseen)?;
                repository.link_blob(&wanted.digest)?;
            }
            Ok::<(), ImportError>(())
        })?;
        let Some((image, children)) = found.manifests.split_last() else {
            return Ok(Some(Done::Refused(Refusal::Nameless)));
        };
        for child in children {
            if !self.push(repository, child, &[])? {
                return Ok(None);
            }
        }
        // Somebody may have pushed meanwhile.
        if let Some(done) = self.import.keeps_out(home, Some(&image.digest))? {
            return Ok(Some(done));
        }
        let tags = home.tag.as_slice();
        if !self.push(repository, image, tags)? {
            return Ok(None);
        }
        if let (Kind::Mirror, Some(tag)) = (repository.kind(), &home.tag) {
            let known = repository.tag_state(tag)?;
            let known = known.filter(|state| state.digest == image.digest);
            let before = known.as_ref().map_or(UNIX_EPOCH, |state| state.checked);
            let state = TagState {
                digest: image.digest.clone(),
                checked: before.max(home.checked.unwrap_or(UNIX_EPOCH)),
                stale_since: None,
            };
            // A full disk is no reason to refuse what is here.
            if known.as_ref() != Some(&state) {
                repository.put_tag_state(tag, &state)?;
            }
        }
        Ok(Some(Done::In {
            kind: repository.kind(),
            hides: home.hides.as_ref().map(ToString::to_string),
            already,
        }))
    }

    /// Stores a manifest if all that it needs is there.
    fn push(
        &self,
        repository: &Repository,
        listed: &Listed,
        tags: &[Tag],
    ) -> Result<bool, ImportError> {
        let bytes = self.import.archive.bytes(listed)?;
        let missing = repository.push_manifest(&Push {
            digest: &listed.digest,
            media_type: &listed.media_type,
            bytes: &bytes,
            needs: &listed.needs,
            subject: listed.subject.as_ref(),
            tags,
        })?;
        Ok(missing.is_empty())
    }
}

/// Whether all of an image is its repository's already, and its tag names it.
fn is_here(found: &Found, home: &Home) -> Result<bool, StoreError> {
    let repository = &home.repository;
    if let Some(tag) = &home.tag
        && repository.tag(tag)?.as_ref() != found.digest()
    {
        return Ok(false);
    }
    for listed in &found.manifests {
        if !repository.has_manifest(&listed.digest)? {
            return Ok(false);
        }
    }
    for wanted in &found.blobs {
        if repository.blob(&wanted.digest)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}
