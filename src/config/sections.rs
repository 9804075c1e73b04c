//! The small sections of the file: version and the limits of lists.

use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};

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

/// `metrics.enabled`.
pub(super) fn metrics(root: &mut Section<'_>) -> Result<bool, ConfigError> {
    let mut section = root.section("metrics")?;
    let enabled = section.get("enabled", Field::bool)?;
    section.finish();
    Ok(enabled.unwrap_or(true))
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
