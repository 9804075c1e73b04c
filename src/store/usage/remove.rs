//! Evicting what was chosen, in small steps, for moments at a time.
//!
//! Each step is decided again with nobody linking, on a picture that knows of everything that this
//! process linked and served until then: what was pulled since, or named by something new, stays.
//! An image goes from the top: its tags, its manifests, an index before its children, then layer
//! links, then the data that nobody links any more. A crash leaves data without a link at most, and
//! what that may be is written down beforehand.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::oci::{RepositoryName, Tag};
use crate::store::changes::Change;
use crate::store::layout::inside;
use crate::store::{Kind, Store, StoreError, file, publish};

use super::books::Books;
use super::choose::{Demand, Spared, Unit, last_use};
use super::clock::Age;
use super::picture::{Place, Repository, stamp};
use super::table::Id;

/// For how long those who link are kept waiting at a time. It is short also because a thread that
/// has worked for less is seldom interrupted while it keeps them waiting.
const BATCH: Duration = Duration::from_micros(250);

/// How many removed files are kept open at most: the time that the disk takes to give back a large
/// file is spent after the hold.
const OPEN: usize = 256;

/// One removal.
#[derive(Debug)]
enum Step {
    /// An image, from its top.
    Unit(Unit),
    /// The end of one.
    Done,
    Manifest(Place, Id),
    /// A tag that names a manifest which goes.
    Tag(Place, Tag, Id),
    /// What a tag that is gone once named.
    History(Place, Tag),
    Layer(Place, Id),
    Data(Id),
    /// The directories of a repository that has nothing any more.
    Tidy(Place),
}

/// An image that was evicted.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) image: String,
    pub(super) used: Age,
    pub(super) bytes: u64,
}

/// An eviction under way.
pub(super) struct Remover<'a> {
    pub(super) store: &'a Store,
    pub(super) spared: Spared,
    pub(super) demand: Demand,
    queue: VecDeque<Step>,
    open: Vec<File>,
    current: Option<Gone>,
    /// Evicted since this was last read.
    pub(super) gone: Vec<Gone>,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    /// Something is not as the picture has it.
    pub(super) is_stale: bool,
    pub(super) longest_hold: Duration,
}

impl<'a> Remover<'a> {
    pub(super) fn new(store: &'a Store, demand: Demand) -> Self {
        Self {
            store,
            spared: Spared::default(),
            demand,
            queue: VecDeque::new(),
            open: Vec::new(),
            current: None,
            gone: Vec::new(),
            bytes: 0,
            inodes: 0,
            is_stale: false,
            longest_hold: Duration::ZERO,
        }
    }

    pub(super) fn add(&mut self, units: Vec<Unit>, remains: Vec<Id>) {
        self.queue.extend(remains.into_iter().map(Step::Data));
        self.queue.extend(units.into_iter().map(Step::Unit));
    }

    pub(super) fn add_husks(&mut self, husks: Vec<(Place, Tag)>) {
        for (place, tag) in husks {
            self.queue.push_back(Step::History(place, tag));
            self.queue.push_back(Step::Tidy(place));
        }
    }

    pub(super) fn has_more(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The data that is unlinked, but was not come to.
    pub(super) fn left(&self) -> Vec<Id> {
        let data = self.queue.iter().filter_map(|step| match step {
            Step::Data(id) => Some(*id),
            _ => None,
        });
        data.collect()
    }

    pub(super) fn is_enough(&self) -> bool {
        self.bytes >= self.demand.bytes && self.inodes >= self.demand.inodes
    }

    /// Works until the batch's time is over. The caller has the exclusive hold, and a picture that
    /// has caught up. The files that went are to be dropped after the hold.
    pub(super) fn batch(&mut self, books: &mut Books) -> Result<Vec<File>, StoreError> {
        let deadline = Instant::now() + BATCH;
        while Instant::now() < deadline && self.open.len() < OPEN {
            let Some(step) = self.queue.pop_front() else {
                break;
            };
            self.step(books, step, deadline)?;
        }
        Ok(std::mem::take(&mut self.open))
    }

    fn step(&mut self, books: &mut Books, step: Step, deadline: Instant) -> Result<(), StoreError> {
        match step {
            Step::Unit(unit) => {
                self.begin(books, unit);
                Ok(())
            }
            Step::Done => {
                let went = self.current.take().filter(|gone| !gone.image.is_empty());
                self.gone.extend(went);
                Ok(())
            }
            Step::Manifest(place, id) => self.manifest(books, place, id),
            Step::Tag(place, tag, id) => self.tag(books, place, tag, id),
            Step::History(place, tag) => self.history(books, place, tag, deadline),
            Step::Layer(place, id) => self.layer(books, place, id),
            Step::Data(id) => self.data(books, id),
            Step::Tidy(place) => self.tidy(books, place),
        }
    }

    fn begin(&mut self, books: &Books, unit: Unit) {
        let is_due = self.demand.unused_since.is_some_and(|it| unit.used < it);
        if self.is_enough() && !is_due {
            return;
        }
        let Some(repository) = books.repository(unit.place) else {
            return;
        };
        self.current = Some(Gone {
            // Named when it goes.
            image: String::new(),
            used: unit.used,
            bytes: 0,
        });
        let first = if repository.revisions.contains_key(&unit.id) {
            Step::Manifest(unit.place, unit.id)
        } else {
            Step::Layer(unit.place, unit.id)
        };
        for step in [Step::Done, Step::Tidy(unit.place), first] {
            self.queue.push_front(step);
        }
    }

    /// The name of a mirror, if it still is one on the disk too.
    fn mirror(&self, books: &Books, place: Place) -> Option<RepositoryName> {
        let repository = books.repository(place).filter(|it| !it.is_doubtful)?;
        let name = repository.mirror.clone()?;
        (self.store.kind_of(&name) == Some(Kind::Mirror)).then_some(name)
    }

    /// Whether a manifest is one that nobody needs, and that nobody came for meanwhile.
    fn may_go(&self, repository: &Repository, place: Place, id: Id) -> bool {
        repository.revisions.contains_key(&id)
            && repository.namers(id) == 0
            && !self.spared.contains(&(place, id))
            && last_use(repository, id) < self.demand.spare
    }

    fn manifest(&mut self, books: &mut Books, place: Place, id: Id) -> Result<(), StoreError> {
        let (Some(name), Some(digest)) = (self.mirror(books, place), books.digest(id)) else {
            return Ok(());
        };
        let repository = books.repository(place);
        let Some(repository) = repository.filter(|it| self.may_go(it, place, id)) else {
            return Ok(());
        };
        let tags = repository.tags.iter().filter(|(_, named)| **named == id);
        let tags: Vec<Tag> = tags.map(|(tag, _)| tag.clone()).collect();
        self.call(|| match tags.first() {
            Some(tag) => format!("{name}:{tag}"),
            None => format!("{name}@{digest}"),
        });
        if !tags.is_empty() {
            self.queue.push_front(Step::Manifest(place, id));
            let tags = tags.into_iter().map(|tag| Step::Tag(place, tag, id));
            tags.for_each(|step| self.queue.push_front(step));
            return Ok(());
        }
        let target = repository.revisions.get(&id).map(|it| it.target);
        let layout = self.store.layout();
        let link = layout.revision_link(&name, &digest);
        self.unlink(&link)?;
        publish::unlink(&layout.revision_media_type(&name, &digest))?;
        remove_directory_of(&link);
        // Hints: what stays of them does no harm.
        drop(publish::unlink(&layout.mirror_used(&name, &digest)));
        drop(publish::unlink(&layout.mirror_referrers(&name, &digest)));
        self.store.changed(&name, Change::Removed);
        let free = books.drop_manifest(place, id);
        for id in free {
            self.queue.push_front(Step::Layer(place, id));
            let repository = books.repository(place);
            if repository.is_some_and(|it| it.revisions.contains_key(&id)) {
                self.queue.push_front(Step::Manifest(place, id));
            }
        }
        if let Some(target) = target {
            self.queue.push_front(Step::Data(target));
        }
        Ok(())
    }

    fn tag(&mut self, books: &mut Books, place: Place, tag: Tag, id: Id) -> Result<(), StoreError> {
        let Some(name) = self.mirror(books, place) else {
            return Ok(());
        };
        let goes = books.repository(place).is_some_and(|repository| {
            repository.tags.get(&tag) == Some(&id) && self.may_go(repository, place, id)
        });
        if goes {
            let layout = self.store.layout();
            self.unlink(&layout.tag_link(&name, &tag))?;
            self.store.changed(&name, Change::Added);
            books.drop_tag(place, &tag);
            self.queue.push_front(Step::History(place, tag));
        }
        Ok(())
    }

    fn history(
        &mut self,
        books: &Books,
        place: Place,
        tag: Tag,
        deadline: Instant,
    ) -> Result<(), StoreError> {
        let Some(name) = self.mirror(books, place) else {
            return Ok(());
        };
        if books
            .repository(place)
            .is_none_or(|it| it.tags.contains_key(&tag))
        {
            return Ok(());
        }
        let directory = self.store.layout().tag(&name, &tag);
        let history = inside::history(&directory);
        for algorithm in file::names_in(&history)? {
            let inner = history.join(algorithm);
            for hex in file::names_in(&inner)? {
                if Instant::now() >= deadline {
                    self.queue.push_front(Step::History(place, tag));
                    return Ok(());
                }
                let link = inner.join(hex).join("link");
                self.unlink(&link)?;
                remove_directory_of(&link);
            }
            publish::remove_if_empty(&inner);
        }
        publish::remove_if_empty(&history);
        drop(publish::unlink(
            &self.store.layout().mirror_tag(&name, &tag),
        ));
        remove_directory_of(&inside::current(&directory));
        publish::remove_if_empty(&directory);
        Ok(())
    }

    fn layer(&mut self, books: &mut Books, place: Place, id: Id) -> Result<(), StoreError> {
        let (Some(name), Some(digest)) = (self.mirror(books, place), books.digest(id)) else {
            return Ok(());
        };
        // Only what nobody names has a time of its own.
        let came = books.repository(place).and_then(|it| it.orphans.get(&id));
        if came.is_none_or(|came| *came >= self.demand.spare) {
            return Ok(());
        }
        self.call(|| format!("a layer of {name}, {digest}"));
        let link = self.store.layout().layer_link(&name, &digest);
        self.unlink(&link)?;
        remove_directory_of(&link);
        self.store.changed(&name, Change::Removed);
        if let Some(target) = books.drop_layer(place, id) {
            self.queue.push_front(Step::Data(target));
        }
        Ok(())
    }

    fn data(&mut self, books: &Books, id: Id) -> Result<(), StoreError> {
        let datum = books.datum(id);
        let Some(digest) = books.digest(id).filter(|_| datum.links() == 0) else {
            return Ok(());
        };
        let path = self.store.layout().blob_data(&digest);
        let Some((open, metadata)) = file::open(&path)? else {
            return Ok(());
        };
        // Somebody has touched it whom we know nothing of, and may rely on it.
        if metadata.modified().map_or(u64::MAX, stamp) > datum.seen {
            tracing::debug!(%digest, "touched by somebody else: it stays for now");
            self.is_stale = true;
            return Ok(());
        }
        self.unlink(&path)?;
        remove_directory_of(&path);
        self.open.push(open);
        self.bytes += metadata.len();
        if let Some(current) = &mut self.current {
            current.bytes += metadata.len();
        }
        Ok(())
    }

    /// What a repository without content has left is hints, and directories.
    fn tidy(&mut self, books: &Books, place: Place) -> Result<(), StoreError> {
        let is_empty = books.repository(place).is_some_and(Repository::is_empty);
        let Some(name) = self.mirror(books, place).filter(|_| is_empty) else {
            return Ok(());
        };
        let layout = self.store.layout();
        let (layers, manifests) = (layout.layers(&name), layout.manifests(&name));
        let (revisions, tags) = (layout.revisions(&name), layout.tags(&name));
        for parent in [&layers, &revisions] {
            for algorithm in file::names_in(parent)? {
                publish::remove_if_empty(&parent.join(algorithm));
            }
        }
        for directory in [&layers, &revisions, &tags, &manifests] {
            publish::remove_if_empty(directory);
        }
        // The marker stays for as long as there is anything that it marks.
        if layers.exists() || manifests.exists() {
            return Ok(());
        }
        // Nor does what people said of it go.
        if self.store.has_marks(&name)? {
            return Ok(());
        }
        publish::unlink_tree(&layout.mirror_marker(&name))?;
        let mut directory = layout.repository(&name);
        while directory != *layout.repositories() && directory.starts_with(layout.repositories()) {
            publish::remove_if_empty(&directory);
            directory.pop();
        }
        Ok(())
    }

    /// Gives the image that goes its name in the log.
    fn call(&mut self, name: impl FnOnce() -> String) {
        if let Some(current) = self.current.as_mut().filter(|it| it.image.is_empty()) {
            current.image = name();
        }
    }

    fn unlink(&mut self, path: &Path) -> Result<(), StoreError> {
        if publish::unlink(path)? {
            // With its directory.
            self.inodes += 2;
        }
        Ok(())
    }
}

/// Removes the directory of a link or of data, if nothing else is in it.
fn remove_directory_of(path: &Path) {
    if let Some(directory) = path.parent() {
        publish::remove_if_empty(directory);
    }
}
