//! `larder export`: images into one file.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::HumanBytes;

use crate::bundle::{Carried, Choice, Picked, Plan, Since, Watch, Writing};
use crate::store::Store;

use super::images::{Images, Platforms};
use super::outfile::OutFile;
use super::transfer::Carrying;
use super::{images, own, parts, say};

/// The command's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder export -o class.tar python:3.12 team/app:1
  larder export -o class.tar --platform linux/amd64 python:3.12 node:20
  larder export -o class.tar -f class.txt
  larder export -o all.tar --all
  larder export -o monday.tar --all --since friday.tar     only what friday.tar lacks
  larder export -o - python:3.12 | ssh lab 'cat > class.tar'

Other programs read the file too:
  skopeo copy oci-archive:class.tar:docker.io/library/python:3.12 docker://…
  docker load < class.tar")]
pub(super) struct Arguments {
    // What is in the store is exported; no upstream is asked.
    #[command(flatten)]
    images: Images,
    #[command(flatten)]
    platforms: Platforms,
    /// The file to write; - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Every tag of every repository, as far as it is wholly here
    #[arg(long)]
    all: bool,
    /// Leave out what this earlier bundle has (may be repeated)
    #[arg(long, value_name = "BUNDLE")]
    since: Vec<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    carrying: Carrying,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let config = arguments.carrying.begin()?;
    refuse_to_replace_since(arguments)?;
    let root = &config.storage.root;
    super::must_be_there(root)?;
    let store = Store::open_to_read(root).map_err(|error| error.to_string())?;
    let picked = match (arguments.all, arguments.images.read()?) {
        (true, images) if images.is_empty() => Picked::all(&store),
        (false, images) if !images.is_empty() => {
            let names = parts::names(&config, &store)?;
            let images = own::strip(images, &own::names(&config));
            let images = images.iter();
            images.map(|image| Picked::named(&names, image)).collect()
        }
        _ => return Err("which images? Name them, or a list with -f, or say --all".to_owned()),
    };
    let picked = picked.map_err(|error| error.to_string())?;
    let choice = Choice {
        platforms: arguments.platforms.list.clone(),
        lenient: arguments.all,
        since: since(&arguments.since)?,
    };
    let plan = Plan::of(&picked, &choice).map_err(|error| error.to_string())?;
    write(arguments, &plan)
}

fn since(paths: &[PathBuf]) -> Result<Vec<Since>, String> {
    let read = |path: &PathBuf| {
        Since::read(path).map_err(|error| format!("--since {}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

/// A bundle that builds on another is worth nothing without it.
fn refuse_to_replace_since(arguments: &Arguments) -> Result<(), String> {
    let inode = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    let output = inode(&arguments.output);
    let is_output = |path: &&PathBuf| output.is_some() && inode(path) == output;
    match arguments.since.iter().find(is_output) {
        Some(path) => Err(format!(
            "{} is the bundle on which the new one builds: write another file, and keep both",
            path.display()
        )),
        None => Ok(()),
    }
}

fn write(arguments: &Arguments, plan: &Plan) -> Result<(), String> {
    let writing = plan.lay_out().map_err(|error| error.to_string())?;
    let is_piped = arguments.output == Path::new("-");
    let (written, speed) = arguments.carrying.moving(writing.size(), |watch| {
        if is_piped {
            writing
                .to_stream(&mut io::stdout().lock(), watch)
                .map_err(|error| error.to_string())
        } else {
            to_file(arguments, &writing, watch)
        }
    })?;
    written?;
    if !arguments.carrying.is_quiet() {
        report(plan, &writing, &speed);
    }
    Ok(())
}

fn to_file(arguments: &Arguments, writing: &Writing<'_>, watch: Watch<'_>) -> Result<(), String> {
    let path = &arguments.output;
    let out = OutFile::create(path, arguments.force)?;
    if let Some(free) = out.room().filter(|free| *free < writing.size()) {
        return Err(format!(
            "{} takes {} ({} bytes) and {} are free: {} bytes more must be freed",
            path.display(),
            HumanBytes(writing.size()),
            writing.size(),
            HumanBytes(free),
            writing.size() - free
        ));
    }
    let written = writing.to_file(out.file(), watch);
    written.map_err(|error| error.to_string())?;
    out.finish()
}

/// On standard error: standard output may be the bundle.
fn report(plan: &Plan, writing: &Writing<'_>, speed: &HumanBytes) {
    for image in &plan.images {
        say(&line(image));
    }
    for skipped in &plan.skipped {
        say(&format!("left out: {skipped}"));
    }
    let known = match plan.known {
        0 => String::new(),
        known => format!("; {known} blobs are in the bundle before it"),
    };
    say(&format!(
        "{}, {} at {speed}/s{known}",
        images::number(plan.images.len()),
        HumanBytes(writing.size()),
    ));
}

fn line(image: &Carried) -> String {
    let platforms = match image.platforms.join(", ") {
        none if none.is_empty() => none,
        platforms => format!(" for {platforms}"),
    };
    // What buildkit attaches to an image is for no platform.
    let left_out = image.left_out.iter().filter(|it| *it != "unknown/unknown");
    let left_out: Vec<&str> = left_out.map(String::as_str).collect();
    let left_out = match left_out.join(", ") {
        none if none.is_empty() => none,
        left_out => format!(" (its index also lists {left_out})"),
    };
    let attached = match (image.attached, image.left_behind) {
        (0, 0) => String::new(),
        (attached, 0) => format!(", and {attached} attached to it"),
        (attached, left) => {
            format!(
                ", and {attached} attached to it ({left} more are not, since they are not here)"
            )
        }
    };
    format!("exported {}{platforms}{left_out}{attached}", image.name)
}
