//! The configuration: Distribution's `config.yml`, extended, and `REGISTRY_*` variables, become one
//! validated [`Config`].
//!
//! This module owns what can be set, what the defaults are, and how mistakes are reported. It is plain
//! data that `cli` takes apart: nothing here opens a socket, looks at the store, or reads the
//! environment by itself, and no other module is handed the whole of it. The one file it reads is a
//! `dockerconfig` that the configuration names.
//!
//! A configuration passes through three hands: `source` merges file and environment into a tree,
//! `distribution` takes out the keys that larder does not have, and `sections` and `upstreams`
//! read what is left through the typed `reader`.

mod distribution;
mod dockerconfig;
mod emit;
mod notice;
mod reader;
mod sections;
mod source;
mod units;
mod upstreams;

use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

pub use notice::{ConfigError, Warning};
pub use upstreams::{Credentials, Secret, Upstream, UpstreamName, Upstreams};

use notice::Notes;
use reader::Section;

/// The configuration that holds when no file is given, as text: what `larder config` shows a newcomer.
pub const DEFAULT_YAML: &str = include_str!("../config/default.yml");

/// Everything that can be set, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What is logged, and how.
    pub log: Log,
    /// Where the data is and what may be done to it.
    pub storage: Storage,
    /// How clients reach the server.
    pub http: Http,
    /// The registries that are mirrored.
    pub upstreams: Upstreams,
    /// How mirrored content is kept.
    pub cache: Cache,
    /// The largest page of `_catalog`, in repositories (default 1000).
    pub catalog_max_entries: usize,
    /// The largest page of a tags list, in tags (default 1000).
    pub tags_max: usize,
    /// What in the configuration does not do what its author may expect, in the order of the file.
    pub warnings: Vec<Warning>,
}

/// `log`: what is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written (default info).
    pub level: Level,
    /// How a line looks (default text).
    pub format: LogFormat,
}

/// How important a message is, the most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something needs attention.
    Warn,
    /// Something happened.
    Info,
    /// For those who look for a fault.
    Debug,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `storage`: where the data is and what may be done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// `filesystem.rootdirectory`: the directory that holds `docker/registry/v2` (default `/var/lib/registry`
    /// for a file, as in Distribution; `./larder-data` without one).
    pub root: PathBuf,
    /// `delete.enabled`: clients may delete manifests, tags and blobs (default false for a file, true without one).
    pub delete: bool,
    /// `maintenance.readonly.enabled`: nothing can be pushed or deleted (default false).
    pub readonly: bool,
    /// `maintenance.uploadpurging`: removing uploads that nobody finished; `None` when switched off.
    pub upload_purging: Option<UploadPurging>,
}

/// When unfinished uploads are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPurging {
    /// How long after its last change an upload counts as abandoned (default 168h).
    pub age: Duration,
    /// How often to look (default 24h). Never zero.
    pub interval: Duration,
    /// Only log what would be removed (default false).
    pub dry_run: bool,
}

/// `http`: how clients reach the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where to listen, as written: `host:port`, with an empty host meaning every address (default `:5000`).
    pub addr: String,
    /// What the URLs in answers begin with; `None` makes them relative, which holds
    /// behind any proxy.
    pub host: Option<Url>,
    /// Headers added to every answer, valid as HTTP header names and values. A name may occur more than once.
    pub headers: Vec<(String, String)>,
    /// How long requests in flight may take to finish after a signal to stop (default 30s; zero: not at all).
    pub drain_timeout: Duration,
}

/// `cache`: how mirrored content is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// How long a tag is served without asking its upstream whether it has moved (default 5m; zero: always ask).
    pub fresh_for: Duration,
    /// Never contact an upstream (default false).
    pub offline: bool,
    /// An image that nobody pulled for this long is evicted (default: never). Not effective yet.
    pub keep_for: Option<Duration>,
    /// Beyond this many bytes of mirrored content the least recently used image is evicted (default: no limit).
    /// Not effective yet.
    pub max_size: Option<u64>,
    /// The same, by what is left on the disk (default: no limit). Not effective yet.
    pub min_free: Option<MinFree>,
}

/// How much of the disk stays free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFree {
    /// A share of the whole disk, 0 to 100.
    Percent(u8),
    /// A number of bytes.
    Bytes(u64),
}

impl Config {
    /// Reads a configuration.
    ///
    /// `file` is the path that messages show, and the text of the file; without it the built-in
    /// [`DEFAULT_YAML`] holds. `env` is the environment, of which the `REGISTRY_*` variables count: they are
    /// applied on top of either.
    pub fn load(
        file: Option<(&Path, String)>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let (name, text) = file.map_or_else(
            || ("built-in default.yml".to_owned(), DEFAULT_YAML.to_owned()),
            |(path, text)| (path.display().to_string(), text),
        );
        let notes = Notes::default();
        let mut tree = source::from_yaml(&name, &text)?;
        source::apply_environment(&mut tree, env, &notes)?;
        distribution::remove_foreign_keys(&mut tree, &notes)?;
        let mut root = Section::root(tree, &notes)?;
        sections::check_version(&mut root)?;
        sections::check_auth(&mut root)?;
        let mut config = Self {
            log: sections::log(&mut root)?,
            storage: sections::storage(&mut root)?,
            http: sections::http(&mut root)?,
            upstreams: upstreams::read(&mut root)?,
            cache: sections::cache(&mut root)?,
            catalog_max_entries: sections::page_limit(&mut root, "catalog", "maxentries")?,
            tags_max: sections::page_limit(&mut root, "tags", "maxtags")?,
            warnings: Vec::new(),
        };
        root.finish();
        config.warnings = notes.into_warnings();
        Ok(config)
    }

    /// The configuration in effect as a `config.yml`, every default written out, passwords masked.
    ///
    /// Without passwords it loads back to an equal configuration. With them it does not load: the mask is refused,
    /// so that nobody logs in with it by accident.
    pub fn to_yaml(&self) -> String {
        emit::to_yaml(self)
    }
}
