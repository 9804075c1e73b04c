//! Reading an archive: which images are in it, and where in the file their content is.
//!
//! All that is small is read and checked at once: headers, the index, every manifest. What is left
//! for later is whether the blobs are what their names say, which takes reading all of the file.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use serde::de::DeserializeOwned;

use crate::oci::manifest::{MAX_SIZE, Need, media_type_of};
use crate::oci::{Digest, MediaType, References, RepositoryName, Tag};

use super::along::{Along, List};
use super::error::{ArchiveError, Bad};
use super::form::{self, Descriptor, Index, Layout};
use super::tar::{self, Entries, Span};
use super::tree::{DEPTH, Made};
use super::{CHUNK, docker};

/// The largest index, or list of saved images.
const MAX_INDEX: u64 = 32 << 20;

/// How many MiB all manifests have together, at most.
const MAX_MANIFESTS: u64 = 256;

/// Whose form an archive has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// larder's own.
    Bundle,
    /// An image layout of somebody else.
    Layout,
    /// What `docker save` writes.
    Docker,
}

/// An archive of images, judged by all that is small in it.
#[derive(Debug)]
pub struct Archive {
    pub(super) file: File,
    pub(super) images: Vec<Found>,
    /// What is attached to the images, each after what it is attached to.
    pub(super) attached: Vec<Found>,
    pub(super) lists: Vec<List>,
    /// Whether it builds on another bundle.
    pub(super) since: bool,
    form: Form,
    ignored: usize,
}

/// An image in an archive.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) named: Named,
    /// What it is attached to; `None` for an image.
    pub(super) subject: Option<Digest>,
    /// Those that are in the file, each after those that it lists. The last is the image itself.
    pub(super) manifests: Vec<Listed>,
    /// What they need, each once.
    pub(super) blobs: Vec<Wanted>,
    /// How many of those that an index lists are not in the file.
    pub(super) absent: usize,
}

/// What an archive says of an image's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// Nothing that would do.
    Not,
    /// What larder wrote.
    Ours {
        is_mirror: bool,
        repository: RepositoryName,
        tag: Option<Tag>,
        checked: Option<SystemTime>,
    },
    /// A name as somebody wrote it.
    Text(String),
    /// The name that an image has in docker.
    Docker(String),
}

impl Named {
    pub(super) fn tag(&self) -> Option<&Tag> {
        match self {
            Self::Ours { tag, .. } => tag.as_ref(),
            Self::Not | Self::Text(_) | Self::Docker(_) => None,
        }
    }
}

/// A manifest in an archive.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) digest: Digest,
    pub(super) media_type: MediaType,
    /// What must be in a repository before it.
    pub(super) needs: Vec<Need>,
    pub(super) subject: Option<Digest>,
    pub(super) bytes: Bytes,
}

#[derive(Debug)]
pub(super) enum Bytes {
    InFile(Span),
    /// Made here, for an archive that has none.
    Made(Vec<u8>),
}

/// A blob that an image needs.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) digest: Digest,
    /// The name of its entry.
    pub(super) entry: String,
    /// Where it is; `None` where it is not in the file.
    pub(super) span: Option<Span>,
}

impl Archive {
    /// Judges an archive. Nothing is taken in yet.
    pub fn open(path: &Path, now: SystemTime) -> Result<Self, ArchiveError> {
        Self::of(File::open(path)?, now)
    }

    /// The same of a file that is open.
    pub fn of(file: File, now: SystemTime) -> Result<Self, ArchiveError> {
        if !file.metadata()?.is_file() {
            return Err(ArchiveError::NotAFile);
        }
        let entries = tar::scan(&file)?;
        let has = |name: &str| entries.files.contains_key(name);
        let mut reading = Reading {
            file: &file,
            entries: &entries,
            used: HashSet::new(),
            budget: MAX_MANIFESTS << 20,
        };
        let mut since = false;
        let mut along = Along::default();
        let (form, images) = if has(form::LAYOUT) && has(form::INDEX) {
            let index = reading.index()?;
            since = index.annotation(form::SINCE).is_some();
            let form = if index.annotation(form::BUNDLE).is_some() {
                Form::Bundle
            } else if has(form::DOCKER) {
                Form::Docker
            } else {
                Form::Layout
            };
            docker::judge_links(&entries, form)?;
            let images = reading.layout(&index, form, now)?;
            if form == Form::Bundle && has(form::ATTACHED) {
                along = Along::read(&mut reading, now)?;
            }
            (form, images)
        } else if has(form::DOCKER) {
            docker::judge_links(&entries, Form::Docker)?;
            (Form::Docker, docker::images(&mut reading)?)
        } else {
            docker::judge_links(&entries, Form::Layout)?;
            return Err(ArchiveError::NoImages);
        };
        let ignored = match form {
            // Docker writes each thing in several ways.
            Form::Docker => 0,
            _ => entries.files.len().saturating_sub(reading.used.len()),
        };
        Ok(Self {
            file,
            images,
            attached: along.manifests,
            lists: along.lists,
            since,
            form,
            ignored,
        })
    }

    /// The names of the entries, and the digest of the index.
    pub(super) fn names(path: &Path) -> Result<(HashSet<String>, Digest), ArchiveError> {
        let file = File::open(path)?;
        let entries = tar::scan(&file)?;
        let index = entries.files.get(form::INDEX);
        let index = *index.ok_or(ArchiveError::NoImages)?;
        if index.size > MAX_INDEX {
            return Err(Bad::TooLarge(MAX_INDEX).at(form::INDEX));
        }
        let index = Digest::of(&tar::read(&file, index)?);
        Ok((entries.files.into_keys().collect(), index))
    }

    /// Whose form it has.
    pub fn form(&self) -> Form {
        self.form
    }

    /// How many images are in it.
    pub fn count(&self) -> usize {
        self.images.len()
    }

    /// How many entries no image needs.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// The bytes of a manifest, which have been checked.
    pub(super) fn bytes(&self, listed: &Listed) -> Result<Vec<u8>, ArchiveError> {
        let bytes = match &listed.bytes {
            Bytes::Made(bytes) => return Ok(bytes.clone()),
            Bytes::InFile(span) => tar::read(&self.file, *span)?,
        };
        // Somebody may be writing into the file.
        if listed.digest.matches(&bytes) {
            Ok(bytes)
        } else {
            Err(Bad::Digest.at(&form::blob_name(&listed.digest)))
        }
    }

    /// Passes on the content of an entry, piece by piece, to its end.
    pub(super) fn read<E: From<ArchiveError>>(
        &self,
        span: Span,
        buffer: &Mutex<Vec<Vec<u8>>>,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let buffers = || {
            buffer
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        };
        let spare = buffers().pop();
        let mut piece = spare.unwrap_or_else(|| vec![0; CHUNK]);
        let mut done = 0;
        let mut result = Ok(());
        while done < span.size && result.is_ok() {
            let length = (span.size - done).min(CHUNK as u64);
            let piece = &mut piece[..usize::try_from(length).unwrap_or(CHUNK)];
            let read = self.file.read_exact_at(piece, span.offset + done);
            result = read.map_err(|error| ArchiveError::Io(error).into());
            result = result.and_then(|()| take(piece));
            done += length;
        }
        buffers().push(piece);
        result
    }
}

/// An archive while it is judged.
pub(super) struct Reading<'a> {
    pub(super) file: &'a File,
    pub(super) entries: &'a Entries,
    used: HashSet<String>,
    /// How many bytes of manifests may still be read.
    budget: u64,
}

/// An image while its manifests are read.
#[derive(Default)]
struct Walk {
    manifests: Vec<Listed>,
    blobs: Vec<Wanted>,
    seen: HashSet<Digest>,
    absent: usize,
}

impl Reading<'_> {
    fn index(&mut self) -> Result<Index, ArchiveError> {
        let layout: Layout = self.json(form::LAYOUT, 4096)?;
        if !layout.version.starts_with("1.") {
            return Err(ArchiveError::Version(layout.version));
        }
        self.json(form::INDEX, MAX_INDEX)
    }

    /// Reads an entry that must be there.
    pub(super) fn bytes(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let span = self.entries.files.get(name);
        let span = *span.ok_or_else(|| Bad::Missing.at(name))?;
        if span.size > limit {
            return Err(Bad::TooLarge(limit).at(name));
        }
        self.use_up(name);
        Ok(tar::read(self.file, span)?)
    }

    fn use_up(&mut self, name: &str) {
        self.used.insert(name.to_owned());
    }

    pub(super) fn json<T: DeserializeOwned>(
        &mut self,
        name: &str,
        limit: u64,
    ) -> Result<T, ArchiveError> {
        let bytes = self.bytes(name, limit)?;
        let content = |error: serde_json::Error| Bad::Content(error.to_string()).at(name);
        serde_json::from_slice(&bytes).map_err(content)
    }

    pub(super) fn list_of_saved(&mut self) -> Result<Vec<form::Saved>, ArchiveError> {
        self.json(form::DOCKER, MAX_INDEX)
    }

    fn layout(
        &mut self,
        index: &Index,
        form: Form,
        now: SystemTime,
    ) -> Result<Vec<Found>, ArchiveError> {
        self.use_up(form::DOCKER);
        self.used
            .retain(|name| self.entries.files.contains_key(name));
        let mut images = Vec::new();
        for descriptor in &index.manifests {
            images.push(self.found(descriptor, form::INDEX, form, now)?);
        }
        if images.is_empty() {
            return Err(ArchiveError::NoImages);
        }
        Ok(images)
    }

    /// Reads what a list has, all of its manifests with it. `list` is the list's entry.
    pub(super) fn found(
        &mut self,
        descriptor: &Descriptor,
        list: &str,
        form: Form,
        now: SystemTime,
    ) -> Result<Found, ArchiveError> {
        let wrong = |text: String| Bad::Content(text).at(list);
        let digest: Result<Digest, _> = descriptor.digest.parse();
        let digest = digest.map_err(|error| wrong(error.to_string()))?;
        let named = named(descriptor, form, now).map_err(wrong)?;
        let media_type = descriptor.media_type.as_deref();
        let media_type = media_type.and_then(|text| text.parse().ok());
        let mut walk = Walk::default();
        let entry = form::blob_name(&digest);
        if !self.entries.files.contains_key(&entry) {
            return Err(Bad::Missing.at(&entry));
        }
        self.manifest(&digest, media_type.as_ref(), DEPTH, &mut walk)?;
        Ok(Found {
            named,
            subject: None,
            manifests: walk.manifests,
            blobs: walk.blobs,
            absent: walk.absent,
        })
    }

    /// Reads a manifest that is in the file, and those that it lists.
    fn manifest(
        &mut self,
        digest: &Digest,
        declared: Option<&MediaType>,
        depth: usize,
        walk: &mut Walk,
    ) -> Result<(), ArchiveError> {
        if !walk.seen.insert(digest.clone()) {
            return Ok(());
        }
        let entry = form::blob_name(digest);
        let bytes = self.bytes(&entry, MAX_SIZE as u64)?;
        let left = self.budget.checked_sub(bytes.len() as u64);
        self.budget = left.ok_or(ArchiveError::TooMuch(MAX_MANIFESTS))?;
        if !digest.matches(&bytes) {
            return Err(Bad::Digest.at(&entry));
        }
        let content = |text: String| Bad::Content(text).at(&entry);
        let media_type = media_type_of(&bytes, declared);
        let media_type = media_type.map_err(|error| content(error.to_string()))?;
        let subject = References::of(&bytes).ok().and_then(|found| found.subject);
        let mut needs = Vec::new();
        match Made::of(&bytes).map_err(content)? {
            Made::Children(_) if depth == 0 => return Err(Bad::Nested.at(&entry)),
            Made::Children(children) => {
                for child in children {
                    let digest = &child.part.digest;
                    if !self.entries.files.contains_key(&form::blob_name(digest)) {
                        walk.absent += 1;
                        continue;
                    }
                    self.manifest(digest, child.media_type.as_ref(), depth - 1, walk)?;
                    needs.push(Need::Manifest(digest.clone()));
                }
            }
            Made::Blobs { needed, welcome } => {
                for part in needed {
                    self.blob(&part.digest, Some(part.size), walk)?;
                    needs.push(Need::Blob(part.digest));
                }
                for digest in welcome {
                    if self.entries.files.contains_key(&form::blob_name(&digest)) {
                        self.blob(&digest, None, walk)?;
                    }
                }
            }
        }
        let span = self.entries.files.get(&entry);
        walk.manifests.push(Listed {
            digest: digest.clone(),
            media_type,
            needs,
            subject,
            bytes: Bytes::InFile(*span.ok_or_else(|| Bad::Missing.at(&entry))?),
        });
        Ok(())
    }

    /// `said` is the size that a manifest gives, zero for none.
    fn blob(
        &mut self,
        digest: &Digest,
        said: Option<u64>,
        walk: &mut Walk,
    ) -> Result<(), ArchiveError> {
        let entry = form::blob_name(digest);
        let span = self.entries.files.get(&entry).copied();
        if let (Some(span), Some(said)) = (span, said.filter(|said| *said > 0))
            && span.size != said
        {
            let found = span.size;
            return Err(Bad::Size { found, said }.at(&entry));
        }
        if span.is_some() {
            self.use_up(&entry);
        }
        if walk.seen.insert(digest.clone()) {
            walk.blobs.push(Wanted {
                digest: digest.clone(),
                entry,
                span,
            });
        }
        Ok(())
    }
}

fn named(descriptor: &Descriptor, form: Form, now: SystemTime) -> Result<Named, String> {
    if let (Form::Bundle, Some(repository)) = (form, descriptor.annotation(form::REPOSITORY)) {
        let tag = descriptor.annotation(form::TAG);
        let tag = tag.map(str::parse::<Tag>).transpose();
        let checked = descriptor.annotation(form::CHECKED);
        return Ok(Named::Ours {
            is_mirror: descriptor.annotation(form::ORIGIN) == Some(form::MIRROR),
            repository: repository
                .parse()
                .map_err(|error| format!("{repository:?}: {error}"))?,
            tag: tag.map_err(|error| error.to_string())?,
            checked: checked.and_then(|text| form::time_of_text(text, now)),
        });
    }
    let full = descriptor.annotation(form::CONTAINERD_NAME);
    let name = full.or_else(|| descriptor.annotation(form::REF_NAME));
    // A bare word is a tag of nobody knows what.
    let name = name.filter(|name| name.contains(['/', ':']));
    Ok(match (name, form) {
        (None, _) => Named::Not,
        (Some(name), Form::Docker) => Named::Docker(docker::short_name(name).to_owned()),
        (Some(name), _) => Named::Text(name.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Reads an archive of so many manifests, of which so many bytes may be read.
    fn read(manifests: usize, budget: u64) -> Result<usize, ArchiveError> {
        let mut archive = ::tar::Builder::new(Vec::new());
        let mut listed = Vec::new();
        for number in 0..manifests {
            let manifest = serde_json::json!({
                "schemaVersion": 2, "layers": [], "annotations": { "n": number.to_string() },
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
            });
            let bytes = manifest.to_string().into_bytes();
            let digest = Digest::of(&bytes);
            let mut header = ::tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            let name = form::blob_name(&digest);
            archive.append_data(&mut header, name, &bytes[..]).unwrap();
            listed.push(Descriptor {
                media_type: None,
                digest: digest.to_string(),
                size: 0,
                annotations: None,
            });
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&archive.into_inner().unwrap()).unwrap();
        let entries = tar::scan(&file)?;
        let mut reading = Reading {
            file: &file,
            entries: &entries,
            used: HashSet::new(),
            budget,
        };
        let index = Index {
            schema_version: 2,
            media_type: None,
            manifests: listed,
            annotations: None,
        };
        let images = reading.layout(&index, Form::Layout, SystemTime::now())?;
        Ok(images.len())
    }

    #[test]
    fn all_manifests_together_have_a_limit() {
        assert!(matches!(read(3, 1000), Ok(3)));
        assert!(matches!(read(3, 200), Err(ArchiveError::TooMuch(_))));
    }
}
