//! `cache`, which Distribution does not have: how mirrored content is kept.

use std::str::FromStr;
use std::time::Duration;

use super::notice::ConfigError;
use super::reader::{Field, Section, quoted};
use super::{Level, MinFree, Upstreams};
use crate::oci::{Digest, Image, ImagePattern, Platform, Reference};

/// `cache`: how mirrored content is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// How long a tag is served without asking its upstream whether it has moved (default 5m; zero: always ask).
    pub fresh_for: Duration,
    /// Never contact an upstream (default false).
    pub offline: bool,
    /// An image that nobody pulled for this long is evicted (default: never).
    pub keep_for: Option<Duration>,
    /// Beyond this many bytes of mirrored content the least recently used image is evicted (default: no limit).
    pub max_size: Option<u64>,
    /// The same, by what is left on the disk (default 10 %; zero: no limit).
    pub min_free: MinFree,
    /// Mirrored images that are never evicted.
    pub pin: Vec<ImagePattern>,
    /// Mirrored tags that stay at a digest, whatever their upstream says. Every image has a tag.
    pub hold: Vec<(Image, Digest)>,
    /// What is fetched before anybody asks for it.
    pub warm: Warm,
}

/// `cache.warm`: images that are fetched on a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    /// The images. None: nothing is done.
    pub images: Vec<Image>,
    /// What they are to run on. None: all that their indexes list.
    pub platforms: Vec<Platform>,
    /// How long after one round the next begins (default 24h). The first is at the start.
    pub every: Duration,
}

pub(super) fn read(root: &mut Section<'_>, upstreams: &Upstreams) -> Result<Cache, ConfigError> {
    let mut section = root.section("cache")?;
    let keep_for = section.get("keepfor", Field::time)?;
    let max_size = section.get("maxsize", Field::size)?;
    let min_free = section.get("minfree", Field::min_free)?;
    let pin = section.get("pin", |field| pins(field, upstreams))?;
    let cache = Cache {
        fresh_for: section
            .get("freshfor", Field::time)?
            .unwrap_or(Duration::from_mins(5)),
        offline: section.get("offline", Field::bool)?.unwrap_or(false),
        keep_for: keep_for.filter(|time| !time.is_zero()),
        max_size: max_size.filter(|size| *size > 0),
        min_free: min_free.unwrap_or(MinFree::Percent(10)),
        pin: pin.unwrap_or_default(),
        hold: holds(section.section("hold")?)?,
        warm: warm(section.section("warm")?)?,
    };
    section.finish();
    Ok(cache)
}

/// `cache.pin`: a misspelt registry would be found out when what it should have kept is gone.
fn pins(field: Field<'_>, upstreams: &Upstreams) -> Result<Vec<ImagePattern>, ConfigError> {
    const PATTERN: &str = "for example docker.io/library/python:*";
    let items = field.clone().items();
    let pins: Vec<ImagePattern> = parsed(field, PATTERN)?;
    for (pin, item) in pins.iter().zip(items) {
        let is_mirrored = |registry: &String| {
            let mut names = upstreams.all.keys();
            names.any(|name| name.as_str() == registry)
        };
        if let Some(registry) = pin.registry().filter(|it| !is_mirrored(it)) {
            let text = format!("nothing is mirrored from {registry}: it is not under upstreams");
            item.note(Level::Warn, text);
        }
    }
    Ok(pins)
}

/// `cache.hold`: an image's name with its tag, and the digest it stays at.
fn holds(section: Section<'_>) -> Result<Vec<(Image, Digest)>, ConfigError> {
    const EXAMPLE: &str = "write for example \"docker.io/library/node:20\": \"sha256:…\"";
    let mut holds = Vec::new();
    for (name, field) in section.into_fields() {
        let place = field.clone();
        let image = match name.parse::<Image>() {
            Ok(image) if matches!(image.reference, Reference::Tag(_)) => image,
            Ok(_) => return Err(place.error(format!("must name a tag; {EXAMPLE}"))),
            Err(error) => return Err(place.error(format!("names no image: {error}; {EXAMPLE}"))),
        };
        let digest = field.text()?;
        let Ok(digest) = digest.parse() else {
            let digest = quoted(&digest);
            return Err(place.error(format!("{digest} is no digest; {EXAMPLE}")));
        };
        holds.push((image, digest));
    }
    Ok(holds)
}

fn warm(mut section: Section<'_>) -> Result<Warm, ConfigError> {
    const IMAGE: &str = "for example docker.io/library/python:3.12";
    const PLATFORM: &str = "for example linux/amd64";
    let images = section.get("images", |field| parsed(field, IMAGE))?;
    let platforms = section.get("platforms", |field| parsed(field, PLATFORM))?;
    let every = section.get("every", Field::time)?;
    let warm = Warm {
        images: images.unwrap_or_default(),
        platforms: platforms.unwrap_or_default(),
        every: every
            .filter(|time| !time.is_zero())
            .unwrap_or(Duration::from_hours(24)),
    };
    section.finish();
    Ok(warm)
}

/// A list of what can be read from text; `example` is one.
fn parsed<T>(field: Field<'_>, example: &str) -> Result<Vec<T>, ConfigError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let read = |item: Field<'_>| {
        let place = item.clone();
        let text = item.text()?;
        text.parse().map_err(|error| {
            let text = quoted(&text);
            place.error(format!("{text}: {error}; write {example}"))
        })
    };
    field.items().into_iter().map(read).collect()
}
