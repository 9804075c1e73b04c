//! The small sections of the file: version, cache and the limits of lists.

use std::time::Duration;

use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};
use super::{Cache, Level};

/// `version: 0.1` marks the file as a registry's, and is mandatory as in Distribution.
pub(super) fn check_version(root: &mut Section<'_>) -> Result<(), ConfigError> {
    match root.take("version") {
        None => Err(root.error("the file has no version; write `version: 0.1` as its first line")),
        Some(field) => {
            let origin = field.origin().clone();
            match field.text()?.as_str() {
                "0.1" => Ok(()),
                other => Err(ConfigError::new(
                    &origin,
                    "version",
                    format!("{} is not supported; write 0.1", quoted(other)),
                )),
            }
        }
    }
}

/// `cache`, which Distribution does not have.
pub(super) fn cache(root: &mut Section<'_>) -> Result<Cache, ConfigError> {
    let mut section = root.section("cache")?;
    let cache = Cache {
        fresh_for: section
            .get("freshfor", Field::duration)?
            .unwrap_or(Duration::from_mins(5)),
        offline: section.get("offline", Field::bool)?.unwrap_or(false),
        keep_for: section.get("keepfor", |field| not_yet(field).duration())?,
        max_size: section.get("maxsize", |field| not_yet(field).size())?,
        min_free: section.get("minfree", |field| not_yet(field).min_free())?,
    };
    section.finish();
    Ok(cache)
}

fn not_yet(field: Field<'_>) -> Field<'_> {
    field.note(
        Level::Warn,
        "not effective yet in this version: nothing is evicted",
    );
    field
}

/// `catalog.maxentries` and `tags.maxtags`. Zero means the default, as in Distribution.
pub(super) fn page_limit(
    root: &mut Section<'_>,
    section: &'static str,
    key: &'static str,
) -> Result<usize, ConfigError> {
    let mut section = root.section(section)?;
    let limit = section.get(key, Field::integer)?;
    section.finish();
    Ok(limit.filter(|limit| *limit > 0).unwrap_or(1000))
}
