//! Files that are broken, or made to do harm: refused by the entry's name, and nothing taken in.

use std::fs;
use std::os::unix::fs::symlink;

use tar::{EntryType, Header};

use super::*;

/// A bundle's entries, to be tampered with.
async fn sound() -> (Carried, Vec<(String, Vec<u8>)>) {
    let carried = Carried::new().await;
    let (file, _) = carried.export("sound.tar", &["--all"]).await;
    let entries = entries(&file);
    (carried, entries)
}

/// Imports bytes into an empty data directory; says what was said. Nothing must be there then.
pub(super) async fn refused(bytes: &[u8]) -> String {
    let (files, there) = (home(), home());
    let file = files.path().join("bad.tar");
    fs::write(&file, bytes).expect("a file");
    let root = there.path().join("root");
    let said = import(&root, &[text(&file)]).await;
    assert!(!said.success, "{said:?}");
    assert!(!said.stderr.contains("panicked"), "{said:?}");
    let tree = root.join("docker");
    assert!(
        !tree.join("registry/v2/repositories").exists(),
        "something was taken in: {:#?}",
        tree::files(&tree)
    );
    said.stderr
}

/// One more entry in front, with a header of its own.
fn with(header: &mut Header, content: &[u8], entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = raw(header, content);
    bytes.extend(archive(entries));
    bytes
}

fn raw(header: &mut Header, content: &[u8]) -> Vec<u8> {
    header.set_mode(0o644);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A header for a name that the `tar` crate would not write.
fn header(name: &str, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header
}

#[tokio::test]
async fn entries_that_no_bundle_has_are_refused_by_name() {
    let (carried, entries) = sound().await;
    let mut cases: Vec<(Vec<u8>, &str, &str)> = Vec::new();
    for (name, kind, says) in [
        ("/etc/passwd", EntryType::Regular, "an absolute path"),
        ("blobs/../../x", EntryType::Regular, "its path contains .."),
        ("..", EntryType::Directory, "its path contains .."),
        ("blobs/sha256/link", EntryType::Symlink, "a symbolic link"),
        ("blobs/sha256/hard", EntryType::Link, "a hard link"),
        ("dev/null", EntryType::Char, "a device or a pipe"),
        ("dev/sda", EntryType::Block, "a device or a pipe"),
        ("a-pipe", EntryType::Fifo, "a device or a pipe"),
        ("holes", EntryType::GNUSparse, "a file with holes"),
        (
            "odd",
            EntryType::new(b'Q'),
            "neither a file nor a directory",
        ),
    ] {
        let mut header = header(name, kind, 0);
        drop(header.set_link_name("/etc/passwd"));
        cases.push((with(&mut header, b"", &entries), name, says));
    }
    let mut twice = entries.clone();
    twice.push((format!("./{}", entries[3].0), entries[3].1.clone()));
    cases.push((archive(&twice), &entries[3].0, "two entries of this name"));
    let mut unsized_ = header("unsized", EntryType::Regular, 0);
    unsized_.as_old_mut().size = *b"not a number";
    cases.push((
        with(&mut unsized_, b"", &entries),
        "unsized",
        "its size is unknown",
    ));
    let mut huge = header("huge", EntryType::Regular, u64::MAX);
    cases.push((with(&mut huge, b"", &entries), "huge", "cut off here"));
    let mut no_text = header("name", EntryType::Regular, 0);
    no_text.as_old_mut().name[0] = 0xff;
    cases.push((
        with(&mut no_text, b"", &entries),
        "ame",
        "its name is no text",
    ));
    // An extended header that hides another name behind a harmless one.
    let record = b"17 path=../../x\n\n";
    let mut pax = header("pax", EntryType::XHeader, record.len() as u64 - 1);
    let mut hidden = raw(&mut pax, &record[..16]);
    hidden.extend(archive(&[("harmless".to_owned(), Vec::new())]));
    cases.push((hidden, "entry", "extended header makes no sense"));
    let record = b"16 path=../../x\n";
    let mut pax = header("pax", EntryType::XHeader, 16);
    let mut hidden = raw(&mut pax, record);
    hidden.extend(archive(&[("harmless".to_owned(), Vec::new())]));
    cases.push((hidden.clone(), "../../x", "its path contains .."));
    let mut doubled = raw(&mut pax, record);
    doubled.extend(hidden);
    cases.push((doubled, "entry", "extended header makes no sense"));
    for (bytes, name, says) in cases {
        let said = refused(&bytes).await;
        assert!(
            said.contains("entry ") && said.contains(name),
            "{name}: {said}"
        );
        assert!(said.contains(says), "{name}: {said}");
    }
    carried.larder.finish().await;
}

#[tokio::test]
async fn a_file_that_is_cut_off_or_damaged_is_refused_at_any_place() {
    let (carried, entries) = sound().await;
    let whole = archive(&entries);
    // Inside a header, inside content, at a border, without the mark at its end, and within it.
    for length in [
        0,
        100,
        512,
        700,
        1024,
        100_000,
        whole.len() - 1100,
        whole.len() - 1024,
        whole.len() - 1023,
        whole.len() - 512,
        whole.len() - 1,
    ] {
        let said = refused(&whole[..length]).await;
        let says = ["cut off here", "not a tar archive"];
        assert!(
            says.iter().any(|says| said.contains(says)),
            "{length}: {said}"
        );
    }
    for at in 3..entries.len() {
        let mut bad = entries.clone();
        let half = bad[at].1.len() / 2;
        bad[at].1[half] ^= 1;
        let said = refused(&archive(&bad)).await;
        assert!(said.contains(&bad[at].0), "{said}");
        assert!(
            said.contains("damaged: its content is not what its digest says"),
            "{said}"
        );
        let mut short = entries.clone();
        short[at].1.pop();
        let said = refused(&archive(&short)).await;
        assert!(
            said.contains(&short[at].0) && said.contains("damaged"),
            "{said}"
        );
    }
    let mut garbled = whole.clone();
    garbled[1024 + 100] ^= 1;
    let said = refused(&garbled).await;
    assert!(
        said.contains("what follows the entry oci-layout is no tar header"),
        "{said}"
    );
    let mut glued = whole.clone();
    glued.truncate(whole.len() - 512);
    glued.extend(&whole);
    let said = refused(&glued).await;
    assert!(
        said.contains("something follows the mark that ends the archive"),
        "{said}"
    );
    carried.larder.finish().await;
}

#[tokio::test]
async fn what_holds_no_images_is_told_apart() {
    let (carried, mut entries) = sound().await;
    let named = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let without = |name: &str| {
        let entries = entries.iter().filter(|(other, _)| other != name);
        archive(&entries.cloned().collect::<Vec<_>>())
    };
    let layout = named("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    let manifest = entries[3].0.clone();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &archive(&entries)).unwrap();
    let many_levels = |depth: usize| {
        let mut blobs = Vec::new();
        let mut inner = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
        for _ in 0..depth {
            let digest = sha256(&inner);
            blobs.push((blob_entry(&digest), inner));
            let child = json!({ "digest": digest, "size": blobs.last().unwrap().1.len() });
            inner = json!({ "schemaVersion": 2, "manifests": [child] })
                .to_string()
                .into();
        }
        blobs.extend([layout.clone(), named("index.json", &inner)]);
        archive(&blobs)
    };
    let tiny: Vec<_> = (0..50_001)
        .map(|at| (format!("tiny/{at}"), Vec::new()))
        .collect();
    for (bytes, says) in [
        (b"hello".to_vec(), "not a tar archive"),
        (vec![0; 10_240], "neither an OCI image layout"),
        (
            gzip.finish().unwrap(),
            "it is compressed: unpack it first, with gunzip",
        ),
        (archive(&[named("x", b"y")]), "neither an OCI image layout"),
        (without("oci-layout"), "entry manifest.json"),
        (without(&manifest), "it is not in the archive"),
        (
            archive(&[
                named("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#),
                named("index.json", b"{}"),
            ]),
            "of version \"2.0.0\"",
        ),
        (
            archive(&[layout.clone(), named("index.json", b"{")]),
            "entry index.json",
        ),
        (
            archive(&[layout.clone(), named("index.json", b"[]")]),
            "entry index.json",
        ),
        (
            archive(&[
                layout.clone(),
                named(
                    "index.json",
                    br#"{"schemaVersion":2,"manifests":[{"digest":"x"}]}"#,
                ),
            ]),
            "entry index.json: not a digest",
        ),
        (
            archive(&[
                layout.clone(),
                named("index.json", &vec![b' '; (32 << 20) + 1]),
            ]),
            "entry index.json: it has more than 33554432 bytes",
        ),
        (
            archive(&[
                named("oci-layout", &vec![b' '; 5000]),
                named("index.json", b"{}"),
            ]),
            "entry oci-layout",
        ),
        (many_levels(6), "indexes are nested too deep"),
        (
            archive(&tiny),
            "more than 50000 entries of less than 512 bytes",
        ),
    ] {
        let said = refused(&bytes).await;
        // A file without oci-layout may be docker's: then it has other layers than it says.
        let says = if says == "entry manifest.json" {
            "entry "
        } else {
            says
        };
        assert!(said.contains(says), "{says}: {said}");
    }
    // What nobody needs does no harm, and is said to be there.
    entries.push(named("README", &[b'x'; 3000]));
    let (files, there) = (home(), home());
    let file = files.path().join("more.tar");
    fs::write(&file, archive(&entries)).unwrap();
    let said = import_all(there.path(), &file).await;
    assert!(
        said.stderr
            .contains("1 entries that no image needs were ignored"),
        "{said:?}"
    );
    assert_eq!(assert_whole(there.path()), 2);
    // Neither a directory nor a pipe can be judged before it is read.
    for path in [files.path().to_owned(), PathBuf::from("/dev/null")] {
        let said = import(there.path(), &[text(&path)]).await;
        assert!(
            !said.success && said.stderr.contains("it is not a file"),
            "{said:?}"
        );
    }
    symlink(&file, files.path().join("by-name.tar")).unwrap();
    import_all(there.path(), &files.path().join("by-name.tar")).await;
    carried.larder.finish().await;
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_told_before_anything_is_written() {
    let carried = Carried::new().await;
    let large = Image::random(21, &[6_000_000]);
    carried.larder.push("team/large", "1", &large).await;
    let (file, _) = carried.export("large.tar", &["team/large:1"]).await;
    let disk = Disk::of_megabytes(4);
    let said = import(disk.path(), &[text(&file)]).await;
    assert!(
        !said.success && said.stderr.contains("there is not enough room"),
        "{said:?}"
    );
    assert!(said.stderr.contains("bytes more must be freed"), "{said:?}");
    assert!(!disk.path().join("docker").exists());
    let out = disk.path().join("out.tar");
    let said = carried
        .larder
        .tool(&["export", "-o", text(&out), "team/large:1"])
        .await;
    assert!(
        !said.success && said.stderr.contains("bytes more must be freed"),
        "{said:?}"
    );
    assert!(!out.exists() && !disk.path().join("out.tar.part").exists());
    carried.larder.finish().await;
}

/// A file system in memory, unmounted in the end.
struct Disk(TempDir);

impl Disk {
    fn of_megabytes(size: usize) -> Self {
        let disk = Self(home());
        let options = format!("size={size}m");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(disk.path())
            .status();
        assert!(mount.expect("mount").success(), "the tests run as root");
        disk
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let umount = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.path())
            .status();
        drop(umount);
    }
}
