//! `notifications`: who is told what happens in the registry.

use std::time::Duration;

use url::Url;

use super::Level;
use super::headers;
use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};
use super::secret::Secret;

/// Who is told what happens in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notifications {
    /// `events.includereferences`: the event of a manifest lists what it refers to (default false).
    pub include_references: bool,
    /// `endpoints`, without those that are disabled. No two have the same name.
    pub endpoints: Vec<Endpoint>,
}

/// One receiver of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is called in the log (default: the host of `url`).
    pub name: String,
    /// Where events are sent; without a user name and password, which are in `headers`.
    pub url: Url,
    /// Sent with each event, valid as HTTP headers.
    pub headers: Vec<(String, Secret)>,
    /// How long an attempt may take (default 1s). Never zero.
    pub timeout: Duration,
    /// After how many failures in a row there is a pause before the next attempt (default 10). Never zero.
    pub threshold: u32,
    /// How long that pause is (default 1s). Never zero.
    pub backoff: Duration,
    /// `ignoredmediatypes` and `ignore.mediatypes`: events about these are not sent.
    pub ignored_media_types: Vec<String>,
    /// `ignore.actions`: nor are these: pull, push, mount, delete.
    pub ignored_actions: Vec<String>,
}

const SECOND: Duration = Duration::from_secs(1);

/// Reads `notifications`.
pub(super) fn read(root: &mut Section<'_>) -> Result<Notifications, ConfigError> {
    let mut section = root.section("notifications")?;
    let mut events = section.section("events")?;
    let include_references = events.get("includereferences", Field::bool)?;
    events.finish();
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let fields = section.take("endpoints");
    for field in fields.map_or_else(Vec::new, Field::items) {
        let place = field.clone();
        let Some(endpoint) = endpoint(field.section()?)? else {
            continue;
        };
        if endpoints.iter().any(|other| other.name == endpoint.name) {
            let name = quoted(&endpoint.name);
            return Err(place.error(format!(
                "another endpoint is called {name} too; write a name of its own"
            )));
        }
        endpoints.push(endpoint);
    }
    section.finish();
    Ok(Notifications {
        include_references: include_references.unwrap_or(false),
        endpoints,
    })
}

fn endpoint(mut section: Section<'_>) -> Result<Option<Endpoint>, ConfigError> {
    if section.get("disabled", Field::bool)?.unwrap_or(false) {
        return Ok(None);
    }
    let name = section.get("name", Field::line)?;
    let (url, headers) = headers::request(&mut section, "url")?;
    let mut ignored_media_types = section
        .get("ignoredmediatypes", Field::texts)?
        .unwrap_or_default();
    let mut ignore = section.section("ignore")?;
    ignored_media_types.extend(ignore.get("mediatypes", Field::texts)?.unwrap_or_default());
    let ignored_actions = ignore.get("actions", ignored_actions)?.unwrap_or_default();
    ignore.finish();
    let endpoint = Endpoint {
        name: name.unwrap_or_else(|| url.host_str().unwrap_or_default().to_owned()),
        url,
        headers,
        timeout: section.duration_or("timeout", SECOND)?,
        threshold: section
            .get("threshold", Field::count)?
            .filter(|count| *count > 0)
            .unwrap_or(10),
        backoff: section.duration_or("backoff", SECOND)?,
        ignored_media_types,
        ignored_actions,
    };
    section.finish();
    Ok(Some(endpoint))
}

/// Distribution compares words and knows no wrong ones; a wrong one ignores nothing.
fn ignored_actions(field: Field<'_>) -> Result<Vec<String>, ConfigError> {
    const ACTIONS: [&str; 4] = ["pull", "push", "mount", "delete"];
    let place = field.clone();
    let actions = field.texts()?;
    for action in actions
        .iter()
        .filter(|action| !ACTIONS.contains(&action.as_str()))
    {
        let (action, known) = (quoted(action), ACTIONS.join(", "));
        place.note(
            Level::Warn,
            format!("{action} has no effect: the actions are {known}"),
        );
    }
    Ok(actions)
}
