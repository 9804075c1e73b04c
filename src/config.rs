//! The configuration: Distribution's `config.yml`, extended, and `REGISTRY_*` variables, become one
//! validated [`Config`].
//!
//! This module owns what can be set, what the defaults are, and how mistakes are reported. It is plain
//! data that `cli` takes apart: nothing here opens a socket, looks at the store, or reads the
//! environment by itself, and no other module is handed the whole of it. The one file it reads is a
//! `dockerconfig` that the configuration names.
//!
//! A configuration passes through three hands: `source` and `environment` make one tree of file and
//! variables, `distribution` takes out the keys that larder does not have, and the sections, each in a
//! file of its own, read what is left through the typed `reader`. `emit` writes it back.

mod auth;
mod cache;
mod compose;
mod distribution;
mod dockerconfig;
mod emit;
mod environment;
mod headers;
mod health;
mod log;
mod notice;
mod notifications;
mod reader;
mod secret;
mod sections;
mod serving;
mod source;
mod storage;
mod tls;
mod units;
mod upstreams;
mod validation;

use std::path::Path;

pub use auth::{Action, Auth, AuthScheme, Challenge, Rule, TokenAuth};
pub use cache::{Cache, Warm};
pub use compose::Compose;
pub use health::{Check, FileCheck, Health, HttpCheck, TcpCheck};
pub use log::{Level, Log, LogFormat};
pub use notice::{ConfigError, Warning};
pub use notifications::{Endpoint, Notifications};
pub use secret::Secret;
pub use serving::{Debug, Http, Listen, Prometheus};
pub use storage::{Collect, Storage, UploadPurging};
pub use tls::{CipherSuite, ClientAuth, LetsEncrypt, Tls, TlsVersion};
pub use upstreams::{Credentials, Upstream, UpstreamName, Upstreams};
pub use validation::{Platforms, Validation};

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
    /// Who may do what.
    pub auth: Auth,
    /// The registries that are mirrored.
    pub upstreams: Upstreams,
    /// How mirrored content is kept.
    pub cache: Cache,
    /// Who is told what happens.
    pub notifications: Notifications,
    /// What is looked at to tell whether the registry is well.
    pub health: Health,
    /// `metrics.enabled`: whether `/metrics` shows metrics, beside the registry's API (default true).
    pub metrics: bool,
    /// Which manifests may be pushed.
    pub validation: Validation,
    /// The largest page of `_catalog`, in repositories (default 1000).
    pub catalog_max_entries: usize,
    /// The largest page of a tags list, in tags (default 1000).
    pub tags_max: usize,
    /// What in the configuration does not do what its author may expect, in the order of the file.
    pub warnings: Vec<Warning>,
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
        environment::apply_environment(&mut tree, env, &notes)?;
        distribution::remove_foreign_keys(&mut tree, &notes)?;
        let mut root = Section::root(tree, &notes)?;
        sections::check_version(&mut root)?;
        let upstreams = upstreams::read(&mut root)?;
        let mut config = Self {
            log: log::read(&mut root)?,
            storage: storage::read(&mut root)?,
            http: serving::read(&mut root)?,
            auth: auth::read(&mut root)?,
            cache: cache::read(&mut root, &upstreams)?,
            upstreams,
            notifications: notifications::read(&mut root)?,
            health: health::read(&mut root)?,
            metrics: sections::metrics(&mut root)?,
            validation: validation::read(&mut root)?,
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
