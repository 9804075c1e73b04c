//! `storage`: where the data is, what may be done to it, and what is tidied up.

use std::path::PathBuf;
use std::time::Duration;

use super::distribution::OTHER_DRIVERS;
use super::notice::ConfigError;
use super::reader::{Field, Section};

const HOUR: Duration = Duration::from_hours(1);

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
    /// `maintenance.garbagecollect`: removing what nothing refers to, while serving; `None` when switched off
    /// (the default for a file; on without one).
    pub collect: Option<Collect>,
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

/// When garbage is collected, and what counts as such. Distribution has no such section and skips it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collect {
    /// How often (default 24h). Never zero.
    pub interval: Duration,
    /// What was touched within this time stays (default 1h).
    pub grace: Duration,
    /// Manifests that no tag leads to go too (default false).
    pub untagged: bool,
}

/// `storage`. Distribution demands a driver; here the file system is understood.
pub(super) fn read(root: &mut Section<'_>) -> Result<Storage, ConfigError> {
    let mut storage = root.section_or_names("storage")?;
    check_drivers(&storage)?;
    let mut filesystem = storage.section("filesystem")?;
    let directory = filesystem.get("rootdirectory", Field::path)?;
    filesystem.finish();
    let mut delete = storage.section("delete")?;
    let deletable = delete.get("enabled", Field::bool)?;
    delete.finish();
    let mut maintenance = storage.section("maintenance")?;
    let mut readonly = maintenance.section("readonly")?;
    let is_readonly = readonly.get("enabled", Field::bool)?;
    readonly.finish();
    let upload_purging = upload_purging(maintenance.section("uploadpurging")?)?;
    let collect = collect(maintenance.section("garbagecollect")?)?;
    maintenance.finish();
    storage.finish();
    Ok(Storage {
        root: directory.unwrap_or_else(|| PathBuf::from("/var/lib/registry")),
        delete: deletable.unwrap_or(false),
        readonly: is_readonly.unwrap_or(false),
        upload_purging,
        collect,
    })
}

/// Data must not silently go to a local directory when the file says it belongs in a bucket.
fn check_drivers(storage: &Section<'_>) -> Result<(), ConfigError> {
    const OURS: [&str; 3] = ["filesystem", "delete", "maintenance"];
    for (name, origin) in storage.remaining() {
        let problem = if OTHER_DRIVERS.contains(&name) && storage.has("filesystem") {
            "this is a second storage driver beside filesystem: only one can hold the data, and larder has only \
             filesystem; remove the other"
        } else if OTHER_DRIVERS.contains(&name)
            || !(OURS.contains(&name) || storage.has("filesystem"))
        {
            "larder keeps its data in files only; write `filesystem: {rootdirectory: /var/lib/registry}` instead"
        } else {
            continue;
        };
        return Err(ConfigError::new(
            origin,
            &format!("storage.{name}"),
            problem,
        ));
    }
    Ok(())
}

/// Distribution fails to start unless all keys are there; here each has a default.
fn upload_purging(mut section: Section<'_>) -> Result<Option<UploadPurging>, ConfigError> {
    let enabled = section.get("enabled", Field::bool)?.unwrap_or(true);
    let purging = UploadPurging {
        age: section.get("age", positive)?.unwrap_or(168 * HOUR),
        interval: section.get("interval", positive)?.unwrap_or(24 * HOUR),
        dry_run: section.get("dryrun", Field::bool)?.unwrap_or(false),
    };
    section.finish();
    Ok(enabled.then_some(purging))
}

fn collect(mut section: Section<'_>) -> Result<Option<Collect>, ConfigError> {
    let enabled = section.get("enabled", Field::bool)?.unwrap_or(false);
    let collect = Collect {
        interval: section.get("interval", positive)?.unwrap_or(24 * HOUR),
        grace: section.get("grace", Field::duration)?.unwrap_or(HOUR),
        untagged: section.get("untagged", Field::bool)?.unwrap_or(false),
    };
    section.finish();
    Ok(enabled.then_some(collect))
}

fn positive(field: Field<'_>) -> Result<Duration, ConfigError> {
    let zero = field.error("must not be zero; write for example 24h");
    match field.duration()? {
        Duration::ZERO => Err(zero),
        duration => Ok(duration),
    }
}
