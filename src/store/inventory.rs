//! What images there are, and what they take up: for those who look.
//!
//! It is read beside whoever serves the directory, and without the bytes of layers. What is removed
//! or comes while it is read may be missing or half there.

mod known;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::oci::manifest::MAX_SIZE;
use crate::oci::{Contents, Digest, RepositoryName, Tag};

use self::known::{Data, Known, lock};
use super::layout::Layout;
use super::{Kind, Repository, Store, StoreError, file, link};

/// How deep indexes may be nested.
const DEPTH: usize = 4;

/// How many repositories are read at a time: on a disk that has none of it in memory, reading is
/// waiting.
const READERS: usize = 8;

/// Everything that is stored, by images.
#[derive(Debug, Default)]
pub struct Inventory {
    /// In the order of their names, those without a tag after those with one.
    pub images: Vec<StoredImage>,
    /// The size of each piece of data that they are made of.
    sizes: Vec<u64>,
}

/// The numbers of pieces of data, each once.
type Parts = Arc<[usize]>;

/// One tag, or a manifest that no tag leads to.
#[derive(Debug)]
pub struct StoredImage {
    /// The repository's full name.
    pub name: RepositoryName,
    /// Local or mirror.
    pub kind: Kind,
    /// Its tag, if it has one.
    pub tag: Option<Tag>,
    /// What the tag names.
    pub digest: Digest,
    /// What it runs on, and whether all of that is here; one without a name if it is no index.
    pub platforms: Vec<(Option<String>, bool)>,
    /// The bytes that no other image uses: what would be freed.
    pub own: u64,
    /// The bytes that others use too.
    pub shared: u64,
    /// When it was last pulled, as far as that is known.
    pub used: Option<SystemTime>,
    /// When its upstream last confirmed it; of a local one, when it was pushed.
    pub dated: Option<SystemTime>,
    /// Since when its upstream could not confirm it.
    pub stale_since: Option<SystemTime>,
    /// What it is made of, as far as it is here: each once.
    parts: Parts,
}

impl Inventory {
    /// The size of some of the images, with what they share counted once.
    pub fn size<'a>(&self, images: impl IntoIterator<Item = &'a StoredImage>) -> u64 {
        let mut is_counted = vec![false; self.sizes.len()];
        let mut size = 0;
        for part in images.into_iter().flat_map(|image| image.parts.iter()) {
            if !std::mem::replace(&mut is_counted[*part], true) {
                size += self.sizes[*part];
            }
        }
        size
    }
}

impl Store {
    /// Lists all images; `untagged` ones only if they are wanted.
    pub fn inventory(&self, untagged: bool) -> Result<Inventory, StoreError> {
        let names = self.repositories(None, usize::MAX)?;
        let known = Known::default();
        let offset = self.clock_offset();
        let next = AtomicUsize::new(0);
        let found = Mutex::new(Vec::new());
        let read = || {
            while let Some((at, name)) = next_of(&next, &names) {
                let read = self.images_of(name, untagged, &known, offset);
                lock(&found).push((at, read));
            }
        };
        thread::scope(|scope| {
            for _ in 0..READERS.min(names.len()) {
                scope.spawn(read);
            }
        });
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        // In the order of their names again.
        found.sort_by_key(|(at, _)| *at);
        let sizes = known.sizes();
        let mut uses = vec![0_u32; sizes.len()];
        let mut images = Vec::new();
        for (_, read) in found {
            let (own, made_of) = read?;
            for part in made_of.iter().flat_map(|parts| parts.iter()) {
                uses[*part] += 1;
            }
            images.extend(own);
        }
        for image in &mut images {
            for part in image.parts.iter() {
                match uses[*part] {
                    1 => image.own += sizes[*part],
                    _ => image.shared += sizes[*part],
                }
            }
        }
        Ok(Inventory { images, sizes })
    }

    /// One repository's images, and what each manifest of them is made of.
    fn images_of(
        &self,
        name: &RepositoryName,
        untagged: bool,
        known: &Known,
        offset: i64,
    ) -> Result<(Vec<StoredImage>, Vec<Parts>), StoreError> {
        let repository = match self.kind_of(name) {
            Some(Kind::Local) => self.local(name),
            Some(Kind::Mirror) => self.mirror(name),
            None => return Ok((Vec::new(), Vec::new())),
        };
        let mut count = Count {
            store: self,
            known,
            linked: HashMap::new(),
            offset,
            made_of: Vec::new(),
        };
        let mut images = Vec::new();
        count.repository(&repository, untagged, &mut images)?;
        Ok((images, count.made_of))
    }

    /// What has to be added to the clock of uses to have the time of day.
    fn clock_offset(&self) -> i64 {
        let text = file::read(&Layout::clock(&self.inner.root), 100);
        let text = text.ok().flatten().unwrap_or_default();
        let parsed = str::from_utf8(&text).ok().and_then(|text| {
            let (wall, age) = text.trim_end().split_once(' ')?;
            let (wall, age) = (wall.parse::<i64>().ok()?, age.parse::<i64>().ok()?);
            wall.checked_sub(age)
        });
        parsed.unwrap_or_default()
    }
}

/// An image as it is put together.
#[derive(Default)]
struct Gathered {
    parts: HashSet<usize>,
    /// Manifests on the way.
    manifests: Vec<Digest>,
    platforms: Vec<(Option<String>, bool)>,
}

/// The next of the names that nobody has taken, and which it is.
fn next_of<'a>(
    next: &AtomicUsize,
    names: &'a [RepositoryName],
) -> Option<(usize, &'a RepositoryName)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    Some((at, names.get(at)?))
}

/// The count of one repository.
struct Count<'a> {
    store: &'a Store,
    known: &'a Known,
    /// What its links lead to: images of one repository share most of theirs.
    linked: HashMap<Digest, Option<usize>>,
    offset: i64,
    /// What each image is made of.
    made_of: Vec<Parts>,
}

impl Count<'_> {
    fn repository(
        &mut self,
        repository: &Repository,
        untagged: bool,
        images: &mut Vec<StoredImage>,
    ) -> Result<(), StoreError> {
        let mut by_digest: BTreeMap<Digest, Vec<Tag>> = BTreeMap::new();
        // Not by the list of tags: that reads each to know that it names something.
        for name in file::names_in(&self.store.layout().tags(repository.name()))? {
            if let Ok(tag) = name.parse::<Tag>()
                && let Some(digest) = repository.tag(&tag)?
            {
                by_digest.entry(digest).or_default().push(tag);
            }
        }
        let first = images.len();
        let mut reached = HashSet::new();
        for (digest, tags) in by_digest {
            let gathered = self.image(repository, &digest)?;
            reached.extend(gathered.manifests.iter().cloned());
            self.add(
                repository,
                &digest,
                gathered,
                tags.into_iter().map(Some),
                images,
            )?;
        }
        // In the repository's own order, whatever they name.
        images[first..].sort_by(|a, b| a.tag.cmp(&b.tag));
        if untagged {
            self.untagged(repository, &reached, images)?;
        }
        Ok(())
    }

    /// Manifests that no tag leads to, and no other one of them.
    fn untagged(
        &mut self,
        repository: &Repository,
        tagged: &HashSet<Digest>,
        images: &mut Vec<StoredImage>,
    ) -> Result<(), StoreError> {
        let revisions = self.store.layout().revisions(repository.name());
        let mut found = Vec::new();
        for algorithm in file::names_in(&revisions)? {
            for hex in file::names_in(&revisions.join(&algorithm))? {
                if let Ok(digest) = format!("{algorithm}:{hex}").parse::<Digest>()
                    && !tagged.contains(&digest)
                    && repository.has_manifest(&digest)?
                {
                    let gathered = self.image(repository, &digest)?;
                    found.push((digest, gathered));
                }
            }
        }
        let below: HashSet<Digest> = found
            .iter()
            .flat_map(|(digest, it)| it.manifests.iter().filter(move |child| *child != digest))
            .cloned()
            .collect();
        for (digest, gathered) in found {
            if !below.contains(&digest) {
                self.add(repository, &digest, gathered, [None].into_iter(), images)?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        gathered: Gathered,
        tags: impl Iterator<Item = Option<Tag>>,
        images: &mut Vec<StoredImage>,
    ) -> Result<(), StoreError> {
        let parts: Parts = gathered.parts.into_iter().collect();
        self.made_of.push(Arc::clone(&parts));
        let used = self.used(repository, digest)?;
        for tag in tags {
            let (dated, stale_since) = self.dates(repository, digest, tag.as_ref())?;
            images.push(StoredImage {
                name: repository.name().clone(),
                kind: repository.kind(),
                tag,
                digest: digest.clone(),
                platforms: gathered.platforms.clone(),
                own: 0,
                shared: 0,
                used,
                dated,
                stale_since,
                parts: Arc::clone(&parts),
            });
        }
        Ok(())
    }

    fn image(&mut self, repository: &Repository, digest: &Digest) -> Result<Gathered, StoreError> {
        let mut gathered = Gathered::default();
        let is_whole = self.manifest(repository, digest, &mut gathered, DEPTH)?;
        if gathered.platforms.is_empty() {
            gathered.platforms.push((None, is_whole));
        }
        Ok(gathered)
    }

    /// Takes in a manifest with what it is made of. Says whether all of that is here.
    fn manifest(
        &mut self,
        repository: &Repository,
        digest: &Digest,
        gathered: &mut Gathered,
        depth: usize,
    ) -> Result<bool, StoreError> {
        let path = self.store.layout().revision_link(repository.name(), digest);
        let Some((number, data)) = self.lead(&path, digest)? else {
            return Ok(false);
        };
        gathered.parts.insert(number);
        gathered.manifests.push(digest.clone());
        let Some(contents) = self.contents(number, &data)? else {
            return Ok(false);
        };
        let mut is_whole = true;
        match &*contents {
            Contents::Index(children) => {
                for child in children.iter().filter(|_| depth > 0) {
                    let digest = &child.part.digest;
                    let is_here = self.manifest(repository, digest, gathered, depth - 1)?;
                    let name = child.platform.as_ref().map(ToString::to_string);
                    // Attestations are listed as if they ran on something unknown.
                    let is_runnable = !name.as_ref().is_some_and(|it| it.starts_with("unknown"));
                    if is_runnable && depth == DEPTH {
                        gathered.platforms.push((name, is_here));
                    }
                    is_whole &= is_here;
                }
            }
            Contents::Image { config, layers } => {
                for part in config.iter().chain(layers) {
                    match self.linked(repository, &part.digest)? {
                        Some(number) => drop(gathered.parts.insert(number)),
                        None => is_whole = false,
                    }
                }
            }
        }
        Ok(is_whole)
    }

    /// The number of a blob that the repository links, if it is here.
    fn linked(
        &mut self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<usize>, StoreError> {
        if let Some(known) = self.linked.get(digest) {
            return Ok(*known);
        }
        let path = self.store.layout().layer_link(repository.name(), digest);
        let number = self.lead(&path, digest)?.map(|(number, _)| number);
        self.linked.insert(digest.clone(), number);
        Ok(number)
    }

    /// What a link leads to, and its number, if that is here.
    fn lead(
        &self,
        path: &std::path::Path,
        digest: &Digest,
    ) -> Result<Option<(usize, Digest)>, StoreError> {
        // An empty link is as good as none.
        let is_linked = path
            .symlink_metadata()
            .is_ok_and(|link| link.is_file() && link.len() > 0);
        if !is_linked {
            return Ok(None);
        }
        // What it says need not be read where there is data of that name.
        if let Some(number) = self.present(digest) {
            return Ok(Some((number, digest.clone())));
        }
        // Distribution links a sha512 to the sha256 it stores under.
        let target = link::read(path)?.filter(|target| target != digest);
        Ok(target.and_then(|target| Some((self.present(&target)?, target))))
    }

    /// The number of some data, if it is here.
    fn present(&self, digest: &Digest) -> Option<usize> {
        let is_here = |data: &Data, number: usize| data.sizes[number].map(|_| number);
        {
            let data = self.known.data();
            if let Some(number) = data.numbers.get(digest) {
                return is_here(&data, *number);
            }
        }
        let found = self.store.layout().blob_data(digest).symlink_metadata();
        let found = found.ok().filter(std::fs::Metadata::is_file);
        let size = found.map(|found| found.len());
        // What a power cut leaves is nothing.
        let size = size.filter(|size| *size > 0 || digest.matches(b""));
        let mut data = self.known.data();
        // Another reader may have been faster.
        if let Some(number) = data.numbers.get(digest) {
            return is_here(&data, *number);
        }
        let number = data.sizes.len();
        data.sizes.push(size);
        data.numbers.insert(digest.clone(), number);
        is_here(&data, number)
    }

    fn contents(&self, number: usize, data: &Digest) -> Result<Option<Arc<Contents>>, StoreError> {
        if let Some(known) = self.known.data().contents.get(&number) {
            return Ok(known.clone());
        }
        let bytes = file::read(&self.store.layout().blob_data(data), MAX_SIZE)?;
        let contents = bytes
            .and_then(|bytes| Contents::of(&bytes).ok())
            .map(Arc::new);
        let mut data = self.known.data();
        data.contents.insert(number, contents.clone());
        Ok(contents)
    }

    fn used(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<SystemTime>, StoreError> {
        if repository.kind() == Kind::Local {
            return Ok(None);
        }
        let path = self.store.layout().mirror_used(repository.name(), digest);
        let text = file::read(&path, 100)?.unwrap_or_default();
        let micros = str::from_utf8(&text)
            .ok()
            .and_then(|text| text.trim_end().parse::<u64>().ok())
            .and_then(|micros| micros.checked_add_signed(self.offset));
        Ok(micros.and_then(|micros| UNIX_EPOCH.checked_add(Duration::from_micros(micros))))
    }

    /// When it was stored or confirmed, and since when it could not be.
    fn dates(
        &self,
        repository: &Repository,
        digest: &Digest,
        tag: Option<&Tag>,
    ) -> Result<(Option<SystemTime>, Option<SystemTime>), StoreError> {
        let layout = self.store.layout();
        let path = match tag {
            Some(tag) => layout.tag_link(repository.name(), tag),
            None => layout.revision_link(repository.name(), digest),
        };
        let stored = path.symlink_metadata().and_then(|link| link.modified());
        let (Some(tag), Kind::Mirror) = (tag, repository.kind()) else {
            return Ok((stored.ok(), None));
        };
        let state = repository.state_of(tag, digest.clone())?;
        // A tag without a record was never checked.
        let checked = Some(state.checked).filter(|checked| *checked > UNIX_EPOCH);
        Ok((checked.or(stored.ok()), state.stale_since))
    }
}
