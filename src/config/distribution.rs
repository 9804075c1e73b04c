//! The keys of CNCF Distribution's `config.yml` that larder does not have, and what becomes of them.
//!
//! One table. A key is ignored only where ignoring it is safe; where it would open a registry that
//! its owner thinks is closed, or put data where nobody looks for it, larder does not start.

use super::Level;
use super::notice::{ConfigError, Notes};
use super::source::Node;

/// What happens to a key that larder does not have.
enum Fate {
    /// Nothing is lost by leaving it out.
    Needless,
    /// What it asks for does not happen.
    Ignored,
    /// Ignoring it would be dangerous.
    Refused,
}
use Fate::{Ignored, Needless, Refused};

/// Drivers of `storage` that larder does not have, of any version of Distribution. They are refused: data must
/// not silently go to a local directory when the file says it belongs in a bucket.
pub(super) const OTHER_DRIVERS: [&str; 8] = [
    "s3", "s3aws", "gcs", "azure", "inmemory", "oss", "swift", "rados",
];

/// Key, fate, and what happens instead.
const KEYS: &[(&str, Fate, &str)] = &[
    (
        "log.reportcaller",
        Needless,
        "log lines do not name the place in the source",
    ),
    ("log.hooks", Ignored, "larder sends no mail; watch its log"),
    (
        "storage.filesystem.maxthreads",
        Needless,
        "larder sizes its own pool of threads",
    ),
    (
        "storage.cache",
        Needless,
        "the file system's own cache does this",
    ),
    (
        "storage.redirect",
        Needless,
        "the file system has nowhere to redirect to",
    ),
    (
        "storage.tag",
        Needless,
        "larder sizes its own pool of threads",
    ),
    (
        "middleware",
        Ignored,
        "larder has no middleware: blobs are served by larder itself",
    ),
    (
        "http.relativeurls",
        Needless,
        "larder chooses the form of its Location headers; http.host fixes what they begin with",
    ),
    (
        "redis",
        Needless,
        "larder needs no cache outside its own process",
    ),
    ("proxy.ttl", Ignored, "what is mirrored is kept"),
    (
        "proxy.cachewritetimeout",
        Needless,
        "larder does not limit how long a download may take",
    ),
    (
        "proxy.exec",
        Refused,
        "larder runs no credential helper; write proxy.username and proxy.password instead",
    ),
    ("policy", Ignored, "every kind of artifact can be pushed"),
    (
        "compatibility",
        Ignored,
        "manifests of schema 1 are not supported",
    ),
    ("reporting", Ignored, "larder reports to nobody"),
];

/// Takes the keys of the table out of the tree, so that what is left is ours or unknown.
pub(super) fn remove_foreign_keys(root: &mut Node, notes: &Notes) -> Result<(), ConfigError> {
    for (key, fate, instead) in KEYS {
        let Some(node) = root.remove(key).filter(|node| !node.is_off()) else {
            continue;
        };
        match fate {
            Needless => notes.add(
                Level::Info,
                &node.origin,
                format!("{key} is not needed: {instead}"),
            ),
            Ignored => notes.add(
                Level::Warn,
                &node.origin,
                format!("{key} has no effect: {instead}"),
            ),
            Refused => return Err(ConfigError::new(&node.origin, key, instead)),
        }
    }
    Ok(())
}
