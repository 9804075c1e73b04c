//! `validation`: which manifests may be pushed.

use regex::Regex;

use super::Level;
use crate::oci::Platform;

use super::notice::ConfigError;
use super::reader::{Field, Section};

/// Which manifests may be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validation {
    /// `disabled`, turned round: manifests are looked into at all (default true).
    pub enabled: bool,
    /// `manifests.urls.allow`: regular expressions, unanchored, of which the URLs of layers that are elsewhere must match
    /// one. Empty: every http and https URL will do, where Distribution would take none.
    pub urls_allow: Vec<String>,
    /// `manifests.urls.deny`: of these they must match none.
    pub urls_deny: Vec<String>,
    /// `manifests.indexes`: for which platforms the manifests that an index lists must be there.
    pub platforms: Platforms,
}

/// For which platforms the manifests that an index lists must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// All. The default.
    All,
    /// None.
    None,
    /// `list`: those of `platformlist`, at least one.
    List(Vec<Platform>),
}

/// Reads `validation`.
pub(super) fn read(root: &mut Section<'_>) -> Result<Validation, ConfigError> {
    let mut section = root.section("validation")?;
    let disabled = section.get("disabled", Field::bool)?.unwrap_or(false);
    section.get("enabled", |field| {
        let place = field.clone();
        if field.bool()? == disabled {
            place.note(
                Level::Warn,
                "is an old key without effect, as in Distribution; write validation.disabled",
            );
        }
        Ok(())
    })?;
    let mut manifests = section.section("manifests")?;
    let mut urls = manifests.section("urls")?;
    let urls_allow = urls.get("allow", expressions)?.unwrap_or_default();
    let urls_deny = urls.get("deny", expressions)?.unwrap_or_default();
    urls.finish();
    let platforms = platforms(manifests.section("indexes")?)?;
    manifests.finish();
    section.finish();
    Ok(Validation {
        enabled: !disabled,
        urls_allow,
        urls_deny,
        platforms,
    })
}

fn expressions(field: Field<'_>) -> Result<Vec<String>, ConfigError> {
    let items = field.items().into_iter();
    items
        .map(|item| {
            let place = item.clone();
            let text = item.text()?;
            match Regex::new(&text) {
                Ok(_) => Ok(text),
                Err(error) => {
                    // The last line says what is wrong; those before it draw where.
                    let error = error.to_string();
                    let reason = error.lines().last().unwrap_or_default();
                    let reason = reason.trim_start_matches("error: ");
                    Err(place.error(format!("not a regular expression: {reason}; write for example ^https://example\\.com/")))
                }
            }
        })
        .collect()
}

fn platforms(mut section: Section<'_>) -> Result<Platforms, ConfigError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Which {
        All,
        None,
        List,
    }
    const WORDS: [(&str, Which); 3] = [
        ("all", Which::All),
        ("none", Which::None),
        ("list", Which::List),
    ];
    let which = section
        .get("platforms", |field| field.choice(&WORDS))?
        .unwrap_or(Which::All);
    let mut list = Vec::new();
    if let Some(field) = section.take("platformlist") {
        if which != Which::List {
            field.note(
                Level::Warn,
                "has no effect; write `platforms: list` beside it",
            );
        }
        for item in field.items() {
            let mut item = item.section()?;
            list.push(Platform {
                os: item.required("os", "linux", Field::text)?,
                architecture: item.required("architecture", "amd64", Field::text)?,
                variant: None,
            });
            item.finish();
        }
    }
    let platforms = match which {
        Which::All => Platforms::All,
        Which::None => Platforms::None,
        Which::List if list.is_empty() => {
            return Err(section.error("has no platformlist; write for example `platformlist: [{os: linux, architecture: amd64}]`"));
        }
        Which::List => Platforms::List(list),
    };
    section.finish();
    Ok(platforms)
}
