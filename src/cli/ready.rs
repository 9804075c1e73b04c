//! `larder verify --offline`: whether images can be pulled with the cable unplugged.
//!
//! Only the store is read, beside a larder that serves it or alone.

use std::io::Write as _;

use clap::Args;
use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::config::Config;
use crate::oci::{Digest, Image, Platform, Reference, Role, Tag};
use crate::registry::{Names, Place};
use crate::store::{Care, ImageHere, Kind, PartHere, Repository, State, Store, StoreError};

use super::images::{self, Images};
use super::{ConfigOption, log, own, parts};

/// What of `larder verify` is about this.
#[derive(Clone, Debug, Args)]
#[group(id = "ready")]
pub(super) struct Arguments {
    #[command(flatten)]
    images: Images,
    /// For machines of this platform, as linux/amd64; may be repeated [default: this machine's]
    #[arg(long = "platform", value_name = "PLATFORM", requires = "offline")]
    platforms: Vec<Platform>,
    /// Read and hash every layer, too
    #[arg(long, requires = "offline")]
    deep: bool,
}

impl Arguments {
    /// Whether images are named.
    pub(super) fn names_any(&self) -> bool {
        !self.images.are_none()
    }
}

/// An image, and how much of it is here.
struct Checked {
    image: Image,
    /// The repository's full name, if it is clear which one is meant.
    repository: Option<String>,
    is_local: bool,
    /// What of it is here, or why nothing is.
    found: Result<ImageHere, String>,
}

/// Looks for every image and says of each whether it is ready. Not all of them: an error.
pub(super) fn run(arguments: &Arguments, file: &ConfigOption, json: bool) -> Result<(), String> {
    let config = &file.file().load()?;
    log::start(&config.log, &config.log.fields);
    let images = arguments.images.read()?;
    let is_named = !images.is_empty();
    let (images, mut platforms) = images::or_configured(images, &arguments.platforms, config)?;
    let is_default = is_named && platforms.is_empty();
    if is_default {
        platforms.push(images::this_machine());
    }
    let names = names(config)?;
    let care = if arguments.deep {
        Care::Content
    } else {
        Care::Size
    };
    let images = own::strip(images, &own::names(config)).into_iter();
    let checked: Vec<_> = images
        .map(|image| check(&names, &config.cache.hold, image, (&platforms, care)))
        .collect();
    let text = if json {
        in_json(&checked, &platforms)
    } else {
        in_words(
            &checked,
            &Asked {
                file,
                platforms: &platforms,
                is_default,
            },
        )
    };
    let printed = std::io::stdout().write_all(text.as_bytes());
    printed.map_err(|error| format!("cannot print: {error}"))?;
    match checked.iter().filter(|checked| !checked.is_ready()).count() {
        0 => Ok(()),
        lacking => Err(format!(
            "{lacking} of {} not ready for a time without network",
            images::number(checked.len())
        )),
    }
}

/// What is asked for in words.
struct Asked<'a> {
    file: &'a ConfigOption,
    platforms: &'a [Platform],
    /// Nobody named a platform.
    is_default: bool,
}

/// Which repository is meant by a name, in a store that is only read.
fn names(config: &Config) -> Result<Names, String> {
    let root = &config.storage.root;
    if !root.is_dir() {
        return Err(format!(
            "{} is not there: nothing is stored yet, or another configuration is meant (-c)",
            root.display()
        ));
    }
    let store = Store::open_to_read(root).map_err(|error| error.to_string())?;
    let upstreams = parts::working(&parts::upstreams(config, &parts::Upstreams::new())?);
    let default = config.upstreams.default.as_ref().map(ToString::to_string);
    Ok(Names::new(store, upstreams, default, true))
}

/// What a tag names for who pulls it: what it is held at, else what is stored.
fn named(
    names: &Names,
    holds: &[(Image, Digest)],
    repository: &Repository,
    tag: &Tag,
) -> Result<Option<Digest>, StoreError> {
    if repository.kind() == Kind::Local {
        return repository.tag(tag);
    }
    let is_it = |image: &Image| {
        let found = names.for_pull(&image.target).map(|resolved| resolved.place);
        let mirror = match found {
            Ok(Place::Mirror(mirror)) => mirror.repository,
            Ok(Place::Local(_)) | Err(_) => return false,
        };
        mirror.name() == repository.name()
    };
    let by_configuration = holds.iter().find(|(image, _)| {
        matches!(&image.reference, Reference::Tag(held) if held == tag) && is_it(image)
    });
    if let Some((_, digest)) = by_configuration {
        return Ok(Some(digest.clone()));
    }
    match repository.held(tag)? {
        Some(digest) => Ok(Some(digest)),
        None => repository.tag(tag),
    }
}

fn check(
    names: &Names,
    holds: &[(Image, Digest)],
    image: Image,
    (platforms, care): (&[Platform], Care),
) -> Checked {
    let resolved = match names.for_pull(&image.target) {
        Ok(resolved) => resolved,
        Err(error) => {
            return Checked {
                image,
                repository: None,
                is_local: false,
                found: Err(error.to_string()),
            };
        }
    };
    let (repository, is_local) = match &resolved.place {
        Place::Local(repository) => (repository, true),
        Place::Mirror(mirror) => (&mirror.repository, false),
    };
    let top = match &image.reference {
        Reference::Digest(digest) => Ok(Some(digest.clone())),
        Reference::Tag(tag) => named(names, holds, repository, tag),
    };
    let found = match top {
        Ok(Some(top)) => repository.image(&top, platforms, care),
        Ok(None) => Ok(ImageHere::default()),
        Err(error) => Err(error),
    };
    Checked {
        image,
        repository: Some(resolved.place.full_name()),
        is_local,
        found: match found {
            Ok(here) if here.parts.is_empty() && here.fault.is_none() => {
                Err("it is not here".to_owned())
            }
            Ok(here) => Ok(here),
            Err(error) => Err(error.to_string()),
        },
    }
}

impl Checked {
    fn is_ready(&self) -> bool {
        self.found.as_ref().is_ok_and(ImageHere::is_whole)
    }

    /// What is in the way, a line for each thing.
    fn complaints(&self) -> Vec<String> {
        let here = match &self.found {
            Ok(here) => here,
            Err(problem) => return vec![problem.clone()],
        };
        let mut lines: Vec<String> = here.lacking().map(complaint).collect();
        lines.extend(here.fault.as_ref().map(ToString::to_string));
        for platform in &here.unlisted {
            let listed = here.listed.iter().map(ToString::to_string);
            let listed = listed.collect::<Vec<_>>().join(", ");
            lines.push(format!(
                "it does not come for {platform}, only for {listed}"
            ));
        }
        lines
    }

    /// What to do about it, if something can be done here.
    fn remedy(&self, asked: &Asked<'_>) -> Option<String> {
        let image = &self.image;
        let has_all = |here: &ImageHere| here.lacking().next().is_none();
        if self.repository.is_none() || self.found.as_ref().is_ok_and(has_all) {
            return None;
        }
        if self.is_local {
            return Some(format!("push {image}"));
        }
        let platforms = asked.platforms.iter();
        let platforms = platforms.map(|it| format!(" --platform {it}"));
        let file = asked.file.path.as_ref();
        let file = file.map(|path| format!(" -c {}", path.display()));
        Some(format!(
            "larder warm{} {image}{}",
            file.unwrap_or_default(),
            platforms.collect::<String>()
        ))
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Index => "index",
        Role::Manifest => "manifest",
        Role::Config => "config",
        Role::Layer => "layer",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Here => "here",
        State::Missing => "missing",
        State::WrongSize(_) => "wrong size",
        State::Damaged => "damaged",
    }
}

fn complaint(lacks: &PartHere) -> String {
    let part = &lacks.part;
    let digest = &part.part.digest;
    let platform = part.platform.as_ref();
    let platform = platform.map_or_else(String::new, |platform| format!(" for {platform}"));
    let size = match (lacks.state, part.part.size) {
        (State::WrongSize(is), should) => format!(": it has {is} bytes and should have {should}"),
        (_, 0) => String::new(),
        (_, size) => format!(" ({})", HumanBytes(size)),
    };
    let (kind, how) = (role(part.role), state(lacks.state));
    format!("{how}: {kind} {digest}{platform}{size}")
}

fn in_words(checked: &[Checked], asked: &Asked<'_>) -> String {
    let mut lines = Vec::new();
    for checked in checked {
        let image = &checked.image;
        if let (true, Ok(here)) = (checked.is_ready(), &checked.found) {
            let size = HumanBytes(here.size());
            let other = here.other.as_ref();
            let other = other.map(|other| format!("; it comes for {other} only"));
            lines.push(format!(
                "ready     {image} ({size}){}",
                other.unwrap_or_default()
            ));
            continue;
        }
        lines.push(format!("not ready {image}"));
        let complaints = checked.complaints().into_iter();
        let remedy = checked.remedy(asked);
        let remedy = remedy.map(|remedy| format!("to do: {remedy}"));
        lines.extend(
            complaints
                .chain(remedy)
                .map(|line| format!("          {line}")),
        );
    }
    let ready = checked.iter().filter(|checked| checked.is_ready()).count();
    let platforms: Vec<_> = asked.platforms.iter().map(ToString::to_string).collect();
    let platforms = if platforms.is_empty() {
        "every platform".to_owned()
    } else {
        platforms.join(", ")
    };
    let whose = if asked.is_default {
        ", this machine's platform (--platform names another)"
    } else {
        ""
    };
    let all = images::number(checked.len());
    lines.push(format!("{ready} of {all} ready for {platforms}{whose}\n"));
    lines.join("\n")
}

fn in_json(checked: &[Checked], platforms: &[Platform]) -> String {
    let part = |lacks: &PartHere| {
        json!({
            "kind": role(lacks.part.role),
            "digest": lacks.part.part.digest.as_str(),
            "size": lacks.part.part.size,
            "platform": lacks.part.platform.as_ref().map(ToString::to_string),
            "state": state(lacks.state),
        })
    };
    let image = |checked: &Checked| {
        let here = checked.found.as_ref();
        let lacking = here.map(|here| here.lacking().map(part).collect::<Vec<_>>());
        let unlisted = here.map(|here| here.unlisted.iter().map(ToString::to_string).collect());
        let problem = match here {
            Ok(here) => here.fault.as_ref().map(ToString::to_string),
            Err(problem) => Some(problem.clone()),
        };
        json!({
            "image": checked.image.to_string(),
            "repository": checked.repository,
            "local": checked.is_local,
            "ready": checked.is_ready(),
            "size": here.map_or(0, ImageHere::size),
            "lacking": lacking.unwrap_or_default(),
            "unlisted": unlisted.unwrap_or_else(|_| Vec::<String>::new()),
            "problem": problem,
        })
    };
    let ready = checked.iter().filter(|checked| checked.is_ready()).count();
    let report: Value = json!({
        "platforms": platforms.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "images": checked.iter().map(image).collect::<Vec<_>>(),
        "ready": ready,
        "not_ready": checked.len() - ready,
    });
    format!("{report:#}\n")
}
