//! An image in the list, and how it is written.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::oci::{Digest, ImagePattern, RepositoryName, Tag};
use crate::store::Kind;

use super::table::size;

/// How much of a digest tells it from all others on one machine: as much as docker shows.
const SHORT: usize = 12;

/// One tag, or a manifest that no tag leads to, with what is said about it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The repository's full name.
    pub(super) name: RepositoryName,
    pub(super) kind: Kind,
    pub(super) tag: Option<Tag>,
    pub(super) digest: Digest,
    /// What it runs on, and whether all of that is here; one without a name if it is no index.
    pub(super) platforms: Vec<(Option<String>, bool)>,
    /// Bytes that only this image uses.
    pub(super) own: u64,
    /// Bytes that others use too.
    pub(super) shared: u64,
    pub(super) used: Option<SystemTime>,
    pub(super) dated: Option<SystemTime>,
    pub(super) stale_since: Option<SystemTime>,
    /// `local`, or the upstream.
    pub(super) from: String,
    pub(super) is_pinned: bool,
    pub(super) is_held: bool,
}

/// Whether any tag of a repository may be wanted. A name without a registry means Docker Hub's, and
/// the local one too.
pub(super) fn may_be_wanted(patterns: &[ImagePattern], name: &RepositoryName, kind: Kind) -> bool {
    let mut names = meant(name, kind).into_iter();
    patterns.is_empty() || names.any(|name| patterns.iter().any(|it| it.fits_name(&name)))
}

/// The same of a tag, or of what has none.
pub(super) fn is_wanted(
    patterns: &[ImagePattern],
    name: &RepositoryName,
    kind: Kind,
    tag: Option<&Tag>,
) -> bool {
    let fits = |pattern: &ImagePattern, name: &RepositoryName| match tag {
        Some(tag) => pattern.fits(name, tag),
        None => pattern.fits_name(name),
    };
    let mut names = meant(name, kind).into_iter();
    patterns.is_empty() || names.any(|name| patterns.iter().any(|it| fits(it, &name)))
}

/// By which full names a repository is meant.
fn meant(name: &RepositoryName, kind: Kind) -> Vec<RepositoryName> {
    let mut names = vec![name.clone()];
    if kind == Kind::Local {
        let hub = if name.is_single() {
            "docker.io/library"
        } else {
            "docker.io"
        };
        names.extend(hub.parse().map(|hub| name.under(&hub)));
    }
    names
}

impl Row {
    /// As it is pulled from this larder.
    pub(super) fn full_name(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.name),
            None => format!("{}@{}", self.name, self.digest),
        }
    }

    fn states(&self) -> Vec<&'static str> {
        let states = [
            (self.stale_since.is_some(), "stale"),
            (self.is_pinned, "pinned"),
            (self.is_held, "held"),
        ];
        let states = states.into_iter().filter(|(is_so, _)| *is_so);
        states.map(|(_, word)| word).collect()
    }

    /// How many platforms are here whole, and how many there are.
    fn platforms(&self) -> (usize, usize) {
        let platforms = &self.platforms;
        let present = platforms.iter().filter(|(_, is_here)| *is_here).count();
        (present, platforms.len())
    }
}

pub(super) fn cells(row: &Row, digests: bool, now: SystemTime) -> [String; 9] {
    let digest = if digests {
        row.digest.to_string()
    } else {
        row.digest.hex()[..SHORT].to_owned()
    };
    // FROM says the rest of a mirror's name.
    let shown = match (row.kind, row.name.split_first()) {
        (Kind::Mirror, (_, Some(rest))) => rest,
        _ => row.name.clone(),
    };
    let shown = match &row.tag {
        Some(tag) => format!("{shown}:{tag}"),
        None => format!("{shown}@{}", &row.digest.hex()[..SHORT]),
    };
    let (present, listed) = row.platforms();
    let or_unknown = |time: Option<SystemTime>| time.map_or_else(|| "-".into(), |it| ago(it, now));
    [
        shown,
        row.from.clone(),
        digest,
        format!("{present}/{listed}"),
        size(row.own),
        size(row.shared),
        or_unknown(row.used),
        or_unknown(row.dated),
        row.states().join(","),
    ]
}

/// How long ago, in one unit: `5m`, `3d`.
pub(super) fn ago(time: SystemTime, now: SystemTime) -> String {
    // A time to come means that a clock was set back.
    short(now.duration_since(time).unwrap_or_default())
}

pub(super) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(365 * 86_400, "y"), (86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    let (length, unit) = unit.unwrap_or((1, "s"));
    format!("{}{unit}", seconds / length)
}

/// A date, if it is one that can be written: what was read may be any number.
pub(super) fn date(time: SystemTime) -> Option<String> {
    /// The beginning of the year 10000.
    const END: Duration = Duration::from_hours(70_389_528);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since < END).then(|| humantime::format_rfc3339_seconds(time).to_string())
}

pub(super) fn as_json(row: &Row) -> Value {
    let time = |time: Option<SystemTime>| time.and_then(date);
    let (present, listed) = row.platforms();
    let names = |is_wanted: bool| {
        let named = row.platforms.iter();
        let named = named.filter(|(_, is_here)| *is_here || !is_wanted);
        let named = named.filter_map(|(name, _)| name.clone());
        named.collect::<Vec<_>>()
    };
    json!({
        "name": row.name.as_str(),
        "tag": row.tag.as_ref().map(ToString::to_string),
        "kind": row.kind.to_string(),
        "from": row.from,
        "digest": row.digest.to_string(),
        "platforms": {"present": present, "listed": listed, "names": names(true), "all": names(false)},
        "own": row.own,
        "shared": row.shared,
        "used": time(row.used),
        "dated": time(row.dated),
        "stale_since": time(row.stale_since),
        "pinned": row.is_pinned,
        "held": row.is_held,
    })
}
