//! Tar archives as they lie in a file: where each entry's bytes are, judged by the headers alone.
//!
//! Nothing is ever unpacked by its name, so a name can do no harm. What an honest archive does not
//! have is refused all the same: whoever made it meant something by it, and not to us.
//!
//! Headers are read by the `tar` crate, block by block; the walk is ours, since it must know where
//! content is without reading it, and must not let anything pass.

use std::collections::HashMap;
use std::collections::hash_map;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use tar::{EntryType, Header, PaxExtensions};

use super::error::{ArchiveError, Bad};

/// The most entries of an archive, in all.
pub(super) const MAX_ENTRIES: usize = 200_000;

/// The most entries of fewer bytes than their own header has.
pub(super) const MAX_TINY: usize = 50_000;

/// The most bytes of names and sizes that an entry brings beside its header.
const MAX_EXTENSION: u64 = 64 << 10;

const BLOCK: u64 = 512;
const BLOCK_SIZE: usize = 512;

/// Where an entry's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The entries of an archive by their names. Directories are left out.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) files: HashMap<String, Span>,
    /// Symbolic links, and what each leads to as it is written.
    pub(super) links: HashMap<String, String>,
}

/// What was said of an entry before its own header.
#[derive(Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    gnu: bool,
    pax: bool,
}

/// Reads all headers, and passes over all content.
pub(super) fn scan(file: &File) -> Result<Entries, ArchiveError> {
    let mut walk = Walk {
        file,
        length: file.metadata()?.len(),
        at: 0,
        last: String::new(),
        count: 0,
        tiny: 0,
        found: Entries::default(),
    };
    walk.refuse_compressed()?;
    let mut ahead = Ahead::default();
    while let Some(header) = walk.header()? {
        walk.entry(&header, &mut ahead)?;
    }
    Ok(walk.found)
}

struct Walk<'a> {
    file: &'a File,
    length: u64,
    at: u64,
    /// The entry before, for messages.
    last: String,
    count: usize,
    tiny: usize,
    found: Entries,
}

impl Walk<'_> {
    fn refuse_compressed(&self) -> Result<(), ArchiveError> {
        let mut magic = [0; 4];
        let read = self.file.read_at(&mut magic, 0)?;
        let known: [(&[u8], &str); 4] = [
            (b"\x1f\x8b", "gunzip"),
            (b"\x28\xb5\x2f\xfd", "unzstd"),
            (b"\xfd7zX", "unxz"),
            (b"BZh", "bunzip2"),
        ];
        let tool = known
            .into_iter()
            .find(|(start, _)| magic[..read].starts_with(start));
        tool.map_or(Ok(()), |(_, tool)| Err(ArchiveError::Compressed(tool)))
    }

    /// The next header, or the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let Some(block) = self.block()? else {
            return Err(self.cut_short());
        };
        if block.iter().all(|byte| *byte == 0) {
            // Two empty blocks end an archive; what lies behind them is padding. All that was
            // carried is there with only one, but whoever wrote it has not come to its end.
            return match self.block()? {
                Some(block) if block.iter().all(|byte| *byte == 0) => Ok(None),
                Some(_) => Err(ArchiveError::BehindTheEnd),
                None => Err(self.cut_short()),
            };
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = block[..148].iter().chain(&block[156..]);
        let sum = sum.fold(8 * u32::from(b' '), |sum, byte| sum + u32::from(*byte));
        if header.cksum().ok() == Some(sum) {
            return Ok(Some(header));
        }
        Err(if self.count == 0 {
            ArchiveError::NotTar
        } else {
            ArchiveError::Header {
                after: self.last.clone(),
            }
        })
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK_SIZE]>, ArchiveError> {
        let mut block = [0; BLOCK_SIZE];
        if self.at + BLOCK > self.length {
            return Ok(None);
        }
        self.file.read_exact_at(&mut block, self.at)?;
        self.at += BLOCK;
        Ok(Some(block))
    }

    fn cut_short(&self) -> ArchiveError {
        if self.count == 0 {
            ArchiveError::NotTar
        } else {
            Bad::Truncated.at(&self.last)
        }
    }

    fn entry(&mut self, header: &Header, ahead: &mut Ahead) -> Result<(), ArchiveError> {
        self.count += 1;
        let raw = ahead
            .path
            .clone()
            .unwrap_or_else(|| header.path_bytes().into_owned());
        self.last = String::from_utf8_lossy(&raw).into_owned();
        let bad = |bad: Bad| bad.at(&self.last);
        if self.count > MAX_ENTRIES {
            return Err(bad(Bad::TooMany(MAX_ENTRIES)));
        }
        let kind = header.entry_type();
        let is_extension = kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions()
            || kind.is_gnu_longname();
        let size = header.entry_size().map_err(|_| bad(Bad::UnknownSize))?;
        let size = ahead.size.filter(|_| !is_extension).unwrap_or(size);
        let span = Span {
            offset: self.at,
            size,
        };
        let padded = size.checked_next_multiple_of(BLOCK);
        let end = padded.and_then(|padded| self.at.checked_add(padded));
        let end = end.filter(|_| self.at + size.min(self.length) <= self.length);
        let end = end.filter(|end| *end <= self.length);
        let end = end.ok_or_else(|| bad(Bad::Truncated))?;
        if is_extension {
            let taken = self.extension(kind, span, ahead);
            taken.map_err(|error| error.unwrap_or_else(|| Bad::Extension.at(&self.last)))?;
        } else {
            let ahead = std::mem::take(ahead);
            self.take(kind, &raw, span, ahead.target.as_deref(), header)?;
        }
        self.at = end;
        Ok(())
    }

    /// Takes in what is said of the next entry. `Err(None)` where it makes no sense.
    fn extension(
        &self,
        kind: EntryType,
        span: Span,
        ahead: &mut Ahead,
    ) -> Result<(), Option<ArchiveError>> {
        if span.size > MAX_EXTENSION {
            return Err(Some(Bad::TooLarge(MAX_EXTENSION).at(&self.last)));
        }
        let bytes = read(self.file, span).map_err(|error| Some(error.into()))?;
        if kind.is_gnu_longname() {
            // Twice for one entry: whichever counts, somebody reads the other.
            if std::mem::replace(&mut ahead.gnu, true) || ahead.path.is_some() {
                return Err(None);
            }
            ahead.path = Some(bytes.strip_suffix(b"\0").unwrap_or(&bytes).to_vec());
            return Ok(());
        }
        let is_global = kind.is_pax_global_extensions();
        if !is_global && std::mem::replace(&mut ahead.pax, true) {
            return Err(None);
        }
        for record in PaxExtensions::new(&bytes) {
            let record = record.map_err(|_| None)?;
            let value = record.value_bytes();
            match record.key_bytes() {
                // Said of everything that follows, these can only be meant to confuse.
                b"path" | b"linkpath" | b"size" if is_global => return Err(None),
                b"path" if ahead.path.is_some() => return Err(None),
                b"path" => ahead.path = Some(value.to_vec()),
                b"linkpath" => ahead.target = Some(value.to_vec()),
                b"size" => {
                    let size = str::from_utf8(value)
                        .ok()
                        .and_then(|text| text.parse().ok());
                    ahead.size = Some(size.ok_or_else(|| Some(Bad::UnknownSize.at(&self.last)))?);
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(Some(Bad::Sparse.at(&self.last)));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        kind: EntryType,
        raw: &[u8],
        span: Span,
        target: Option<&[u8]>,
        header: &Header,
    ) -> Result<(), ArchiveError> {
        let bad = |bad: Bad| bad.at(&self.last);
        let name = clean(raw).map_err(bad)?;
        let is_new = match kind {
            EntryType::Directory => return Ok(()),
            EntryType::Regular | EntryType::Continuous if !raw.ends_with(b"/") => {
                self.tiny += usize::from(span.size < BLOCK);
                if self.tiny > MAX_TINY {
                    return Err(bad(Bad::TooManyTiny(MAX_TINY)));
                }
                !self.found.links.contains_key(&name) && insert(&mut self.found.files, name, span)
            }
            // What old tars wrote for directories.
            EntryType::Regular if span.size == 0 => return Ok(()),
            EntryType::Symlink => {
                let own = header.link_name_bytes().unwrap_or_default();
                let target = String::from_utf8_lossy(target.unwrap_or(&own)).into_owned();
                !self.found.files.contains_key(&name) && insert(&mut self.found.links, name, target)
            }
            EntryType::Link => return Err(bad(Bad::HardLink)),
            EntryType::Char | EntryType::Block | EntryType::Fifo => return Err(bad(Bad::Device)),
            EntryType::GNUSparse => return Err(bad(Bad::Sparse)),
            EntryType::GNULongLink => return Err(bad(Bad::SymbolicLink)),
            _ => return Err(bad(Bad::Kind)),
        };
        if is_new { Ok(()) } else { Err(bad(Bad::Twice)) }
    }
}

/// Says whether there was none of that name.
fn insert<T>(entries: &mut HashMap<String, T>, name: String, value: T) -> bool {
    match entries.entry(name) {
        hash_map::Entry::Occupied(_) => false,
        hash_map::Entry::Vacant(place) => {
            place.insert(value);
            true
        }
    }
}

/// An entry's name in one spelling: `./a//b` is `a/b`.
fn clean(raw: &[u8]) -> Result<String, Bad> {
    let text = str::from_utf8(raw).map_err(|_| Bad::Name)?;
    if text.contains('\0') || text.is_empty() {
        return Err(Bad::Name);
    }
    if text.starts_with('/') {
        return Err(Bad::Absolute);
    }
    let mut steps = Vec::new();
    for step in text.split('/') {
        match step {
            "" | "." => {}
            ".." => return Err(Bad::Upward),
            step => steps.push(step),
        }
    }
    Ok(steps.join("/"))
}

/// Reads all of a small entry.
pub(super) fn read(file: &File, span: Span) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(span.size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, span.offset)?;
    Ok(bytes)
}

/// What stands before an entry's content: its header, and its name too where that is long.
pub(super) fn head(name: &str, size: u64) -> Vec<u8> {
    let mut header = Header::new_ustar();
    let mut bytes = Vec::new();
    // A plain header has eleven octal digits for a size.
    if size >= 8 << 30 || header.set_path(name).is_err() {
        header = Header::new_gnu();
        if header.set_path(name).is_err() {
            bytes = long_name(name);
        }
    }
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    header.set_cksum();
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

/// GNU's way of saying what an entry is called that does not fit into its header.
fn long_name(name: &str) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
    header.set_entry_type(EntryType::GNULongName);
    header.set_mode(0o644);
    header.set_size(name.len() as u64 + 1);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_SIZE), 0);
    bytes
}

/// How many bytes fill an entry's last block.
pub(super) fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK) - size
}

/// What ends an archive: two empty blocks.
pub(super) const END: usize = 2 * BLOCK_SIZE;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Archive, ArchiveError as Error};
    use proptest::prelude::*;
    use std::io::Write as _;
    use std::time::UNIX_EPOCH;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in entries {
            bytes.extend(head(name, content.len() as u64));
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK_SIZE), 0);
        }
        bytes.resize(bytes.len() + END, 0);
        bytes
    }

    fn layout() -> Vec<(String, Vec<u8>)> {
        let index = br#"{"schemaVersion":2,"manifests":[]}"#;
        let digest = crate::oci::Digest::of(index);
        let descriptor = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","annotations":{{"io.containerd.image.name":"a/b:1"}}}}]}}"#
        );
        vec![
            (
                "oci-layout".into(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            ("index.json".into(), descriptor.into_bytes()),
            (format!("blobs/sha256/{}", digest.hex()), index.to_vec()),
        ]
    }

    #[test]
    fn names_and_sizes_of_any_length_are_read_back() {
        let long = format!("blobs/sha512/{}", "a".repeat(128));
        let entries: Vec<_> = ["a", &long, &"n".repeat(100), &"m".repeat(101)]
            .map(|name| (name.to_owned(), name.as_bytes().to_vec()))
            .into();
        let file = file(&archive(&entries));
        let found = scan(&file).unwrap();
        assert_eq!(found.files.len(), 4);
        for (name, content) in entries {
            assert_eq!(read(&file, found.files[&name]).unwrap(), content);
        }
        for size in [0, 8 << 30, 1 << 40] {
            let bytes = head("x", size);
            let header = Header::from_byte_slice(&bytes);
            assert_eq!(header.entry_size().unwrap(), size);
            assert_eq!(bytes.len(), BLOCK_SIZE);
        }
    }

    #[test]
    fn what_other_readers_find_is_what_was_written() {
        let long = format!("blobs/sha512/{}", "a".repeat(128));
        let bytes = archive(&[
            (long.clone(), b"content".to_vec()),
            ("b".into(), vec![1; 512]),
        ]);
        let mut read = ::tar::Archive::new(&bytes[..]);
        let names = read.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.size())
        });
        assert_eq!(names.collect::<Vec<_>>(), [(long, 7), ("b".into(), 512)]);
    }

    #[test]
    fn a_layout_is_judged_whole() {
        let archive = Archive::of(file(&archive(&layout())), UNIX_EPOCH).unwrap();
        assert_eq!((archive.count(), archive.ignored()), (1, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert!(Archive::of(file(&bytes), UNIX_EPOCH).is_err());
        }

        /// A flipped byte is found, or is one that nobody reads: of a time, an owner, padding.
        #[test]
        fn a_changed_archive_is_refused_or_the_same(
            at in any::<prop::sample::Index>(), value in any::<u8>(), length in any::<prop::sample::Index>(),
        ) {
            let whole = archive(&layout());
            let mut changed = whole.clone();
            let at = at.index(changed.len());
            changed[at] = value;
            if let Ok(judged) = Archive::of(file(&changed), UNIX_EPOCH) {
                prop_assert_eq!(judged.count(), 1);
            }
            // Every shorter one is refused, even where only the mark at its end was cut.
            let length = length.index(whole.len());
            prop_assert!(Archive::of(file(&whole[..length]), UNIX_EPOCH).is_err());
        }

        #[test]
        fn a_name_is_safe_or_refused(raw in prop::collection::vec(any::<u8>(), 0..40), text in "[a./]{0,12}") {
            for raw in [&raw[..], text.as_bytes()] {
                if let Ok(name) = clean(raw) {
                    prop_assert!(!name.starts_with('/') && name.split('/').all(|step| step != ".."));
                }
            }
        }

        #[test]
        fn any_entries_are_read_back_or_refused(
            names in prop::collection::vec("[ab./]{1,9}", 0..6), sizes in prop::collection::vec(0usize..1200, 6),
        ) {
            let entries: Vec<_> = names.iter().zip(sizes).map(|(name, size)| (name.clone(), vec![7; size])).collect();
            match scan(&file(&archive(&entries))) {
                Ok(found) => prop_assert!(found.files.len() <= entries.len()),
                Err(error) => prop_assert!(matches!(error, Error::Entry { .. }), "{}", error),
            }
        }
    }
}
