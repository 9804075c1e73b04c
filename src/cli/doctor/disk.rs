//! The disk: whether it takes writes and keeps them, how much room there is, what it is.
#![expect(
    clippy::disallowed_methods,
    reason = "one small file is written to see whether that is possible, and removed"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use rustix::fs::StatVfs;

use crate::config::{Config, MinFree};

use super::Finding;

const DISK: &str = "disk";

/// Slower than this, a push of many layers is no pleasure.
const SLOW: Duration = Duration::from_secs(1);

/// With so little room, nothing of any size is kept.
const LITTLE: u64 = 100 << 20;

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let root = &config.storage.root;
    let mut findings = Vec::new();
    let place = if root.is_dir() {
        root.clone()
    } else {
        let parent = existing(root);
        findings.push(Finding::fine(
            DISK,
            format!("{} is not there yet: larder makes it", root.display()),
        ));
        parent
    };
    findings.push(write(&place, config));
    findings.extend(owner(&place));
    findings.extend(room(&place, config));
    findings.extend(kind(&place));
    findings
}

/// The nearest directory above that there is.
fn existing(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = path.ancestors().find(|it| it.is_dir());
    found.unwrap_or(Path::new("/")).to_owned()
}

fn write(place: &Path, config: &Config) -> Finding {
    let shown = place.display();
    let path = place.join(format!(".larder-doctor-{}", std::process::id()));
    let tried = try_writing(&path);
    drop(fs::remove_file(&path));
    match tried {
        Ok(Tried { sync, sendfile }) if sync < SLOW => {
            let sendfile = match sendfile {
                Ok(()) if config.http.tls.is_none() => "; sendfile works",
                _ => "",
            };
            Finding::fine(
                DISK,
                format!("{shown} takes writes; syncing one took {sync:.1?}{sendfile}"),
            )
        }
        Ok(Tried { sync, .. }) => Finding::doubtful(
            DISK,
            format!("{shown}: syncing a small write took {sync:.1?}"),
            "each layer is synced once, so pushes and first pulls are slow: use a faster disk, or see what else keeps this one busy",
        ),
        Err(error) => Finding::broken(
            DISK,
            format!("{shown} takes no writes: {error}"),
            match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "chown it to the user that larder runs as, or run this as that user"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "free some room, or set cache.maxsize: until then nothing new is kept, and pushes are refused"
                }
                io::ErrorKind::ReadOnlyFilesystem => {
                    "mount it for writing: until then what is there is served, and nothing is kept"
                }
                _ => "look into the kernel's log (dmesg): the disk may be failing",
            },
        ),
    }
}

struct Tried {
    sync: Duration,
    sendfile: io::Result<()>,
}

/// Writes, syncs, reads back, and sends as blobs are sent.
fn try_writing(path: &Path) -> io::Result<Tried> {
    let bytes: Vec<u8> = (0..=255).cycle().take(64 * 1024).collect();
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(path)?;
    file.write_all(&bytes)?;
    let started = Instant::now();
    file.sync_all()?;
    let sync = started.elapsed();
    let mut again = Vec::new();
    let mut file = File::open(path)?;
    file.read_to_end(&mut again)?;
    if again != bytes {
        return Err(io::Error::other("what was written is not what is read"));
    }
    let (from, _to) = UnixStream::pair()?;
    let mut offset = 0;
    let sent = rustix::fs::sendfile(&from, &file, Some(&mut offset), 1024);
    Ok(Tried {
        sync,
        sendfile: sent.map(drop).map_err(io::Error::from),
    })
}

/// Whoever runs this may be able to write where larder is not.
fn owner(place: &Path) -> Option<Finding> {
    let owner = fs::metadata(place).ok()?.uid();
    let own = rustix::process::geteuid().as_raw();
    (owner != own).then(|| {
        Finding::doubtful(
            DISK,
            format!("{} belongs to user {owner}, and this is user {own}", place.display()),
            "what is said here holds for this user: run larder doctor as the one that larder runs as",
        )
    })
}

fn room(place: &Path, config: &Config) -> Vec<Finding> {
    let found = match rustix::fs::statvfs(place) {
        Ok(found) => found,
        Err(error) => {
            let seen = format!("it cannot be said how much room there is: {error}");
            return vec![Finding::doubtful(DISK, seen, "look at it with df")];
        }
    };
    let mut findings = vec![bytes(&found, config)];
    findings.extend(inodes(&found));
    findings
}

fn bytes(found: &StatVfs, config: &Config) -> Finding {
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let size = found.f_blocks.saturating_mul(found.f_frsize);
    let kept = match config.cache.min_free {
        MinFree::Bytes(bytes) => bytes,
        MinFree::Percent(percent) => size / 100 * u64::from(percent),
    };
    let seen = format!("{} of {} are free", HumanBytes(free), HumanBytes(size));
    if free < LITTLE {
        return Finding::broken(
            DISK,
            seen,
            "free some room: what does not fit is passed on and not kept, and pushes are refused",
        );
    }
    if free < kept {
        let kept = HumanBytes(kept);
        return Finding::doubtful(
            DISK,
            format!("{seen}, and cache.minfree wants {kept}"),
            "larder evicts mirrored images that are used least until that much is free: free some room, or set cache.minfree lower",
        );
    }
    Finding::fine(DISK, seen)
}

fn inodes(found: &StatVfs) -> Option<Finding> {
    // Some file systems make them as they need them.
    if found.f_files == 0 {
        return None;
    }
    let (free, all) = (found.f_favail, found.f_files);
    let seen = format!("{free} of {all} inodes are free");
    let todo = "an image takes some 30: remove small files, or use a file system with more inodes";
    Some(if free < 100 {
        Finding::broken(DISK, seen, todo)
    } else if free < all / 50 {
        Finding::doubtful(DISK, seen, todo)
    } else {
        Finding::fine(DISK, seen)
    })
}

/// What file systems call themselves: statfs(2).
const KINDS: [(i64, &str, Option<&str>); 13] = [
    (0xef53, "ext4", None),
    (0x5846_5342, "xfs", None),
    (0x9123_683e, "btrfs", None),
    (0xf2f5_2010, "f2fs", None),
    (0x2fc1_2fc1, "zfs", None),
    (
        0x0102_1994,
        "tmpfs",
        Some(
            "it is memory, and empty after a restart: set storage.filesystem.rootdirectory to a disk",
        ),
    ),
    (
        0x8584_58f6,
        "ramfs",
        Some(
            "it is memory, and empty after a restart: set storage.filesystem.rootdirectory to a disk",
        ),
    ),
    (
        0x794c_7630,
        "overlayfs",
        Some(
            "in a container that is its own layer, which goes when the container goes: mount a volume there",
        ),
    ),
    (
        0x6969,
        "nfs",
        Some(
            "locks and syncs may not mean there what they mean on a disk: only one larder may use it, and a disk is better",
        ),
    ),
    (
        0xff53_4d42,
        "cifs",
        Some("names and locks may not mean there what they mean on a disk: use a disk"),
    ),
    (
        0xfe53_4d42,
        "smb",
        Some("names and locks may not mean there what they mean on a disk: use a disk"),
    ),
    (
        0x6573_5546,
        "fuse",
        Some(
            "what it promises depends on the program behind it: see that it keeps what was synced",
        ),
    ),
    (
        0x4d44,
        "fat",
        Some("it has neither links nor rights, and no file over 4 GiB: use another file system"),
    ),
];

fn kind(place: &Path) -> Option<Finding> {
    let found = rustix::fs::statfs(place).ok()?.f_type;
    // Some kernels extend the sign.
    let found = found & 0xffff_ffff;
    let (_, name, todo) = KINDS.iter().find(|(magic, ..)| *magic == found)?;
    let seen = format!("the file system is {name}");
    Some(match todo {
        None => Finding::fine(DISK, seen),
        Some(todo) => Finding::doubtful(DISK, seen, *todo),
    })
}
