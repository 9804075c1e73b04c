//! `larder ls`: what is stored, read off the data directory.

mod table;
mod upstreams;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Value, json};

use crate::config::{Config, UpstreamName};
use crate::oci::{Digest, Image, ImagePattern, Reference, RepositoryName, Tag};
use crate::store::{Inventory, Kind, Marks, Store, StoredImage};

use super::{ConfigOption, images};
use table::{Table, size};

/// How much of a digest tells it from all others on one machine: as much as docker shows.
const SHORT: usize = 12;

/// The command's arguments.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches are just that")]
#[command(after_help = "Examples:
  larder ls                       all images in ./larder-data
  larder ls python                Docker Hub's python, all tags
  larder ls 'ghcr.io/*' team/app  all that is mirrored from ghcr.io, and what was pushed as team/app
  larder ls --upstreams           whether the upstreams answer, and the pulls they still allow
  larder ls -q -c config.yml      only names, one a line

OWN is what only this image uses, SHARED what others use too; USED says how long ago it was last
pulled, AGE how long ago its upstream confirmed it or, for a local image, when it was pushed.")]
pub(super) struct Arguments {
    /// Only these images; * stands for anything
    #[arg(value_name = "NAME")]
    patterns: Vec<ImagePattern>,
    #[command(flatten)]
    config: ConfigOption,
    /// Manifests that no tag leads to, too
    #[arg(short, long)]
    all: bool,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// List the upstreams instead of the images
    #[arg(long, conflicts_with_all = ["patterns", "all", "digests", "quiet"])]
    upstreams: bool,
    /// Write digests out
    #[arg(long)]
    digests: bool,
    /// Only names, one a line
    #[arg(short, long, conflicts_with = "json")]
    quiet: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let config = arguments.config.load()?;
    let root = &config.storage.root;
    super::must_be_there(root)?;
    let now = SystemTime::now();
    let text = if arguments.upstreams {
        upstreams::list(&config, arguments.json, now)
    } else {
        let store = Store::open_to_read(root).map_err(|error| error.to_string())?;
        let inventory = store.inventory(arguments.all);
        let inventory =
            inventory.map_err(|error| format!("cannot list {}: {error}", root.display()))?;
        let marks = store.marks();
        let marks = marks.map_err(|error| format!("cannot read pins and holds: {error}"))?;
        let known = Known {
            marks,
            ..Known::new(&config)
        };
        images(arguments, &known, &inventory, now)
    };
    // Whoever listened may have gone: `larder ls | head`.
    drop(io::stdout().write_all(text.as_bytes()));
    Ok(())
}

/// An image with what the configuration says about it.
struct Row<'a> {
    image: &'a StoredImage,
    from: String,
    is_pinned: bool,
    is_held: bool,
}

fn images(
    arguments: &Arguments,
    known: &Known<'_>,
    inventory: &Inventory,
    now: SystemTime,
) -> String {
    let wanted = |image: &&StoredImage| is_wanted(&arguments.patterns, image);
    let rows = inventory.images.iter().filter(wanted);
    let rows: Vec<_> = rows.map(|image| known.row(image)).collect();
    if arguments.quiet {
        return rows.iter().map(|row| full_name(row.image) + "\n").collect();
    }
    let distinct: std::collections::BTreeSet<_> = rows
        .iter()
        .map(|row| (&row.image.name, &row.image.digest))
        .collect();
    let bytes = inventory.size(rows.iter().map(|row| row.image));
    if arguments.json {
        let images: Vec<_> = rows.iter().map(as_json).collect();
        let all = json!({"images": images, "count": distinct.len(), "bytes": bytes});
        return format!("{all:#}\n");
    }
    if rows.is_empty() {
        return nothing(inventory);
    }
    let mut table = Table::new([
        "IMAGE", "FROM", "DIGEST", "PLAT", "OWN", "SHARED", "USED", "AGE", "STATE",
    ]);
    table.right_from(3, 7);
    for row in &rows {
        table.add(cells(row, arguments.digests, now));
    }
    let tags = rows.iter().filter(|row| row.image.tag.is_some()).count();
    let total = format!(
        "{}, {tags} tag{}, {} in all, what is shared counted once\n",
        images::number(distinct.len()),
        if tags == 1 { "" } else { "s" },
        table::size(bytes)
    );
    table.text(table::width()) + &total
}

/// What is said instead of an empty table.
fn nothing(inventory: &Inventory) -> String {
    let text = if inventory.images.is_empty() {
        "nothing is here yet: pull an image through larder, push one to it, or fetch one ahead (larder warm python:3.12)"
    } else {
        "no image that is here is called so: larder ls lists them all"
    };
    format!("{text}\n")
}

/// What the configuration knows of mirrored images.
struct Known<'a> {
    config: &'a Config,
    /// The upstreams by their directories.
    upstreams: Vec<(String, &'a UpstreamName)>,
    held: Vec<(RepositoryName, &'a Tag, &'a Digest)>,
    /// What people said while larder ran.
    marks: BTreeMap<RepositoryName, Marks>,
}

impl<'a> Known<'a> {
    fn new(config: &'a Config) -> Self {
        let names = config.upstreams.all.keys();
        let mut known = Self {
            config,
            upstreams: names.map(|name| (name.directory(), name)).collect(),
            held: Vec::new(),
            marks: BTreeMap::new(),
        };
        for (image, digest) in &config.cache.hold {
            if let (Some(name), Reference::Tag(tag)) = (known.directory(image), &image.reference) {
                known.held.push((name, tag, digest));
            }
        }
        known
    }

    /// The directory of the mirror that an image's name means.
    fn directory(&self, image: &Image) -> Option<RepositoryName> {
        let target = &image.target;
        if let Some(host) = &target.host {
            let host = UpstreamName::parse(host).ok()?.directory().parse().ok()?;
            return Some(target.name.under(&host));
        }
        let (first, rest) = target.name.split_first();
        let named = UpstreamName::parse(first).ok().map(|name| name.directory());
        let is_named = |it: &&(String, _)| named.as_ref() == Some(&it.0);
        let (upstream, name) = match (self.upstreams.iter().find(is_named), rest) {
            (Some((_, upstream)), Some(rest)) => (*upstream, rest),
            _ => (self.config.upstreams.default.as_ref()?, target.name.clone()),
        };
        let name = if upstream.is_docker_hub() && name.is_single() {
            name.under(&"library".parse().ok()?)
        } else {
            name
        };
        Some(name.under(&upstream.directory().parse().ok()?))
    }

    fn row(&self, image: &'a StoredImage) -> Row<'a> {
        let (first, _) = image.name.split_first();
        let is_mirror = image.kind == Kind::Mirror;
        let upstream = self.upstreams.iter().find(|(it, _)| it == first);
        let from = match (image.kind, upstream) {
            (Kind::Local, _) => "local".to_owned(),
            (Kind::Mirror, Some((_, name))) => name.as_str().to_owned(),
            // A port's colon; no host has an underscore.
            (Kind::Mirror, None) => first.replace('_', ":"),
        };
        let pins = &self.config.cache.pin;
        let is_held = |tag| {
            let mut held = self.held.iter();
            held.any(|(name, held, _)| *name == image.name && *held == tag)
        };
        let marks = self.marks.get(&image.name);
        let is_pinned = |tag| {
            let marked = marks.is_some_and(|marks| marks.pins.contains(tag));
            marked || pins.iter().any(|pin| pin.fits(&image.name, tag))
        };
        let is_marked = |tag| marks.is_some_and(|marks| marks.holds.contains_key(tag));
        let tag = image.tag.as_ref().filter(|_| is_mirror);
        Row {
            image,
            from,
            is_pinned: tag.is_some_and(is_pinned),
            is_held: tag.is_some_and(|tag| is_held(tag) || is_marked(tag)),
        }
    }
}

/// A name without a registry means Docker Hub's, and the local one too.
fn is_wanted(patterns: &[ImagePattern], image: &StoredImage) -> bool {
    let fits = |pattern: &ImagePattern, name: &RepositoryName| match &image.tag {
        Some(tag) => pattern.fits(name, tag),
        None => pattern.fits_name(name),
    };
    let mut names = vec![image.name.clone()];
    if image.kind == Kind::Local {
        let hub = if image.name.is_single() {
            "docker.io/library"
        } else {
            "docker.io"
        };
        names.extend(hub.parse().map(|hub| image.name.under(&hub)));
    }
    let wanted = |pattern| names.iter().any(|name| fits(pattern, name));
    patterns.is_empty() || patterns.iter().any(wanted)
}

fn full_name(image: &StoredImage) -> String {
    match &image.tag {
        Some(tag) => format!("{}:{tag}", image.name),
        None => format!("{}@{}", image.name, image.digest),
    }
}

impl Row<'_> {
    fn states(&self) -> Vec<&'static str> {
        let states = [
            (self.image.stale_since.is_some(), "stale"),
            (self.is_pinned, "pinned"),
            (self.is_held, "held"),
        ];
        let states = states.into_iter().filter(|(is_so, _)| *is_so);
        states.map(|(_, word)| word).collect()
    }

    /// How many platforms are here whole, and how many there are.
    fn platforms(&self) -> (usize, usize) {
        let platforms = &self.image.platforms;
        let present = platforms.iter().filter(|(_, is_here)| *is_here).count();
        (present, platforms.len())
    }
}

fn cells(row: &Row<'_>, digests: bool, now: SystemTime) -> [String; 9] {
    let image = row.image;
    let digest = if digests {
        image.digest.to_string()
    } else {
        image.digest.hex()[..SHORT].to_owned()
    };
    // FROM says the rest of a mirror's name.
    let shown = match (image.kind, image.name.split_first()) {
        (Kind::Mirror, (_, Some(rest))) => rest,
        _ => image.name.clone(),
    };
    let shown = match &image.tag {
        Some(tag) => format!("{shown}:{tag}"),
        None => format!("{shown}@{}", &image.digest.hex()[..SHORT]),
    };
    let (present, listed) = row.platforms();
    let or_unknown = |time: Option<SystemTime>| time.map_or_else(|| "-".into(), |it| ago(it, now));
    [
        shown,
        row.from.clone(),
        digest,
        format!("{present}/{listed}"),
        size(image.own),
        size(image.shared),
        or_unknown(image.used),
        or_unknown(image.dated),
        row.states().join(","),
    ]
}

/// How long ago, in one unit: `5m`, `3d`.
fn ago(time: SystemTime, now: SystemTime) -> String {
    // A time to come means that a clock was set back.
    short(now.duration_since(time).unwrap_or_default())
}

fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(365 * 86_400, "y"), (86_400, "d"), (3_600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    let (length, unit) = unit.unwrap_or((1, "s"));
    format!("{}{unit}", seconds / length)
}

/// A date, if it is one that can be written: what was read may be any number.
fn date(time: SystemTime) -> Option<String> {
    /// The beginning of the year 10000.
    const END: Duration = Duration::from_hours(70_389_528);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (since < END).then(|| humantime::format_rfc3339_seconds(time).to_string())
}

fn as_json(row: &Row<'_>) -> Value {
    let image = row.image;
    let time = |time: Option<SystemTime>| time.and_then(date);
    let (present, listed) = row.platforms();
    let names = |is_wanted: bool| {
        let named = image.platforms.iter();
        let named = named.filter(|(_, is_here)| *is_here || !is_wanted);
        let named = named.filter_map(|(name, _)| name.clone());
        named.collect::<Vec<_>>()
    };
    json!({
        "name": image.name.as_str(),
        "tag": image.tag.as_ref().map(ToString::to_string),
        "kind": image.kind.to_string(),
        "from": row.from,
        "digest": image.digest.to_string(),
        "platforms": {"present": present, "listed": listed, "names": names(true), "all": names(false)},
        "own": image.own,
        "shared": image.shared,
        "used": time(image.used),
        "dated": time(image.dated),
        "stale_since": time(image.stale_since),
        "pinned": row.is_pinned,
        "held": row.is_held,
    })
}
