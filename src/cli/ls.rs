//! `larder ls`: what is stored, read off the data directory, or told by a larder elsewhere.

mod row;
mod server;
mod table;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use serde_json::json;
use url::Url;

use crate::config::{Config, UpstreamName};
use crate::oci::{Digest, Image, ImagePattern, Reference, RepositoryName, Tag};
use crate::store::{Kind, Marks, Store, StoredImage};

use super::{ConfigOption, images, place};
use row::{Row, as_json, cells, is_wanted};
use table::Table;

/// The command's arguments.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches are just that")]
#[command(after_help = "Examples:
  larder ls                       all images in ./larder-data
  larder ls python                Docker Hub's python, all tags
  larder ls 'ghcr.io/*' team/app  all that is mirrored from ghcr.io, and what was pushed as team/app
  larder ls --upstreams           whether the upstreams answer, and the pulls they still allow
  larder ls -q -c config.yml      only names, one a line
  larder ls --server larder:5000  what the larder there has, as its API tells it

OWN is what only this image uses, SHARED what others use too; USED says how long ago it was last \
pulled, AGE how long ago its upstream confirmed it or, for a local image, when it was pushed. \
A server shows what may be pulled by LARDER_USERNAME, whose LARDER_PASSWORD it is given.")]
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
    /// Ask the larder at this address, and read no data directory
    #[arg(long, value_name = "URL", value_parser = place::typed_url, conflicts_with = "all")]
    server: Option<Url>,
    /// Trust the certificates in this PEM file when talking to the server
    #[arg(long, value_name = "FILE", requires = "server")]
    ca: Option<PathBuf>,
}

/// What is listed.
struct Listing {
    rows: Vec<Row>,
    /// What they take together, what is shared counted once, where that is known.
    bytes: Option<u64>,
    /// Whether there is anything at all, listed or not.
    is_anything: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let now = SystemTime::now();
    let text = match &arguments.server {
        Some(url) => server::list(arguments, url, now)?,
        None => here(arguments, now)?,
    };
    // Whoever listened may have gone: `larder ls | head`.
    drop(io::stdout().write_all(text.as_bytes()));
    Ok(())
}

/// What the data directory has.
fn here(arguments: &Arguments, now: SystemTime) -> Result<String, String> {
    let config = arguments.config.load()?;
    let root = &config.storage.root;
    super::must_be_there(root)?;
    if arguments.upstreams {
        return Ok(upstreams::list(&config, arguments.json, now));
    }
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
    let wanted = |image: &&StoredImage| {
        let tag = image.tag.as_ref();
        is_wanted(&arguments.patterns, &image.name, image.kind, tag)
    };
    let wanted: Vec<_> = inventory.images.iter().filter(wanted).collect();
    let listing = Listing {
        bytes: Some(inventory.size(wanted.iter().copied())),
        rows: wanted.into_iter().map(|image| known.row(image)).collect(),
        is_anything: !inventory.images.is_empty(),
    };
    Ok(images(arguments, &listing, now))
}

fn images(arguments: &Arguments, listing: &Listing, now: SystemTime) -> String {
    let Listing {
        rows,
        bytes,
        is_anything,
    } = listing;
    if arguments.quiet {
        return rows.iter().map(|row| row.full_name() + "\n").collect();
    }
    let distinct: BTreeSet<_> = rows.iter().map(|row| (&row.name, &row.digest)).collect();
    if arguments.json {
        let images: Vec<_> = rows.iter().map(as_json).collect();
        let all = json!({"images": images, "count": distinct.len(), "bytes": bytes});
        return format!("{all:#}\n");
    }
    if rows.is_empty() {
        return nothing(*is_anything);
    }
    let mut table = Table::new([
        "IMAGE", "FROM", "DIGEST", "PLAT", "OWN", "SHARED", "USED", "AGE", "STATE",
    ]);
    table.right_from(3, 7);
    for row in rows {
        table.add(cells(row, arguments.digests, now));
    }
    let tags = rows.iter().filter(|row| row.tag.is_some()).count();
    let size = bytes.map_or_else(String::new, |bytes| {
        let size = table::size(bytes);
        format!(", {size} in all, what is shared counted once")
    });
    let total = format!(
        "{}, {tags} tag{}{size}\n",
        images::number(distinct.len()),
        if tags == 1 { "" } else { "s" },
    );
    table.text(table::width()) + &total
}

/// What is said instead of an empty table.
fn nothing(is_anything: bool) -> String {
    let text = if is_anything {
        "no image that is here is called so: larder ls lists them all"
    } else {
        "nothing is here yet: pull an image through larder, push one to it, or fetch one ahead (larder warm python:3.12)"
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

    fn row(&self, image: &StoredImage) -> Row {
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
            name: image.name.clone(),
            kind: image.kind,
            tag: image.tag.clone(),
            digest: image.digest.clone(),
            platforms: image.platforms.clone(),
            own: image.own,
            shared: image.shared,
            used: image.used,
            dated: image.dated,
            stale_since: image.stale_since,
            from,
            is_pinned: tag.is_some_and(is_pinned),
            is_held: tag.is_some_and(|tag| is_held(tag) || is_marked(tag)),
        }
    }
}
