//! Writing a bundle: each blob is hashed while it is written, and one that is not what its digest
//! says ends it.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc;
use std::thread;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::oci::Hasher;

use super::error::ExportError;
use super::form;
use super::plan::{Item, Plan};
use super::{CHUNK, Watch, in_parallel, tar, workers};

/// How much is written before the disk is told to take it, in bytes.
const SYNCED: usize = 64 << 20;

/// What becomes one entry, and where it begins.
struct Entry<'a> {
    head: Vec<u8>,
    content: Content<'a>,
    size: u64,
    offset: u64,
}

enum Content<'a> {
    Bytes(Vec<u8>),
    Manifest(&'a Item),
    Blob(&'a Item),
    /// What ends the archive.
    End,
}

/// A bundle, ready to be written.
pub struct Writing<'a> {
    plan: &'a Plan,
    entries: Vec<Entry<'a>>,
    size: u64,
}

impl Plan {
    /// Lays out the file: the index first, then manifests, then blobs, so that whoever reads it
    /// can judge it early.
    pub fn lay_out(&self) -> Result<Writing<'_>, ExportError> {
        let json = |error: serde_json::Error| ExportError::Write(error.into());
        let layout = form::Layout {
            version: form::LAYOUT_VERSION.to_owned(),
        };
        let mut writing = Writing {
            plan: self,
            entries: Vec::new(),
            size: 0,
        };
        let layout = serde_json::to_vec(&layout).map_err(json)?;
        writing.add(form::LAYOUT, layout.len() as u64, Content::Bytes(layout));
        let index = serde_json::to_vec(&self.index).map_err(json)?;
        writing.add(form::INDEX, index.len() as u64, Content::Bytes(index));
        if !self.saved.is_empty() {
            let saved = serde_json::to_vec(&self.saved).map_err(json)?;
            writing.add(form::DOCKER, saved.len() as u64, Content::Bytes(saved));
        }
        let attached = &self.attached;
        if !attached.manifests.is_empty() || !attached.lists.is_empty() {
            let attached = serde_json::to_vec(attached).map_err(json)?;
            let size = attached.len() as u64;
            writing.add(form::ATTACHED, size, Content::Bytes(attached));
        }
        for item in &self.manifests {
            let name = form::blob_name(&item.digest);
            writing.add(&name, item.size, Content::Manifest(item));
        }
        for item in &self.blobs {
            let name = form::blob_name(&item.digest);
            writing.add(&name, item.size, Content::Blob(item));
        }
        writing.entries.push(Entry {
            head: Vec::new(),
            content: Content::End,
            size: tar::END as u64,
            offset: writing.size,
        });
        writing.size += tar::END as u64;
        Ok(writing)
    }
}

impl<'a> Writing<'a> {
    fn add(&mut self, name: &str, size: u64, content: Content<'a>) {
        let head = tar::head(name, size);
        let length = head.len() as u64 + size + tar::padding(size);
        self.entries.push(Entry {
            head,
            content,
            size,
            offset: self.size,
        });
        self.size += length;
    }

    /// The size of the whole file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes an empty file, durable on return.
    ///
    /// Where the file system can set the room aside, several blobs are written at a time, each at
    /// its place. Where it cannot (FAT), it would fill what is skipped with zeros first.
    pub fn to_file(&self, file: &File, watch: Watch<'_>) -> Result<(), ExportError> {
        let reserved = rustix::fs::fallocate(file, FallocateFlags::empty(), 0, self.size);
        let workers = match reserved {
            Ok(()) => workers(),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => 1,
            Err(error) => return Err(ExportError::Write(error.into())),
        };
        // The longest first, so that nobody is left alone with one at the end.
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|entry| Reverse(entry.size));
        synced_meanwhile(file, |written| {
            in_parallel(&entries, workers, |entry| {
                let mut at = entry.offset;
                self.write(entry, watch, &mut |bytes| {
                    file.write_all_at(bytes, at)?;
                    at += bytes.len() as u64;
                    written(bytes.len());
                    Ok(())
                })
            })
        })
    }

    /// Writes from the beginning to the end.
    pub fn to_stream(&self, out: &mut dyn Write, watch: Watch<'_>) -> Result<(), ExportError> {
        for entry in &self.entries {
            self.write(entry, watch, &mut |bytes| out.write_all(bytes))?;
        }
        out.flush().map_err(ExportError::Write)
    }

    fn write(
        &self,
        entry: &Entry<'_>,
        watch: Watch<'_>,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), ExportError> {
        let mut put = |bytes: &[u8]| {
            if (watch.stop)() {
                return Err(ExportError::Stopped);
            }
            out(bytes).map_err(ExportError::Write)?;
            (watch.moved)(bytes.len() as u64);
            Ok(())
        };
        put(&entry.head)?;
        match &entry.content {
            Content::Bytes(bytes) => put(bytes)?,
            Content::Manifest(item) => {
                let stored = item.repository.manifest(&item.digest)?;
                put(&stored.ok_or_else(|| self.gone(item))?.bytes)?;
            }
            Content::Blob(item) => self.blob(item, &mut put)?,
            Content::End => put(&[0; tar::END])?,
        }
        let padding = [0; 512];
        let padding = &padding[..usize::try_from(tar::padding(entry.size)).unwrap_or(0)];
        put(padding)
    }

    fn blob(
        &self,
        item: &Item,
        put: &mut dyn FnMut(&[u8]) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let blob = item.repository.blob(&item.digest)?;
        let blob = blob.ok_or_else(|| self.gone(item))?;
        let mut hasher = Hasher::new(item.digest.algorithm());
        let mut buffer = vec![0; CHUNK.min(usize::try_from(item.size).unwrap_or(CHUNK))];
        let mut done = 0;
        while done < item.size {
            let length = (item.size - done).min(buffer.len() as u64);
            let piece = &mut buffer[..usize::try_from(length).unwrap_or(CHUNK)];
            let read = blob.read_into(done, piece).map_err(ExportError::Write)?;
            let bytes = &piece[..read];
            if bytes.is_empty() {
                return Err(self.damaged(item));
            }
            hasher.update(bytes);
            put(bytes)?;
            done += bytes.len() as u64;
        }
        if blob.size() == item.size && hasher.finish() == item.digest {
            Ok(())
        } else {
            Err(self.damaged(item))
        }
    }

    fn name(&self, item: &Item) -> String {
        let image = self.plan.images.get(item.image);
        image.map_or_else(String::new, |image| image.name.clone())
    }

    fn gone(&self, item: &Item) -> ExportError {
        ExportError::Gone {
            image: self.name(item),
            digest: item.digest.clone(),
        }
    }

    fn damaged(&self, item: &Item) -> ExportError {
        ExportError::Damaged {
            image: self.name(item),
            digest: item.digest.clone(),
        }
    }
}

/// Does the work, which says how many bytes it has written, and makes the file durable. The disk is
/// kept busy meanwhile: otherwise it would begin when all the rest is done.
fn synced_meanwhile(
    file: &File,
    work: impl FnOnce(&(dyn Fn(usize) + Sync)) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let (written, news) = mpsc::channel();
    thread::scope(|threads| {
        let syncing = threads.spawn(move || {
            let mut unsynced = 0;
            for length in news {
                unsynced += length;
                if unsynced >= SYNCED {
                    // The kernel tells of a failure once: a later success means nothing.
                    file.sync_data()?;
                    unsynced = 0;
                }
            }
            file.sync_all()
        });
        // Where syncing has ended early, its error is what matters, and it is asked for below.
        let worked = work(&|length| {
            let _ = written.send(length);
        });
        drop(written);
        let synced = syncing.join();
        worked?;
        let synced = synced.unwrap_or_else(|_| Err(io::Error::other("syncing ended early")));
        synced.map_err(ExportError::Write)
    })
}
