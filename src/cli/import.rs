//! `larder import`: images out of one file.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use indicatif::HumanBytes;

use crate::bundle::{Archive, Done, Import, ImportError, Ready, Taken};
use crate::oci::Image;
use crate::store::{Kind, Store};

use super::transfer::Carrying;
use super::{parts, say};

/// The command's arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  larder import class.tar
  larder import -c /etc/larder/config.yml class.tar        also while larder serves
  docker save -o app.tar app:1 && larder import --as team/app:1 app.tar")]
pub(super) struct Arguments {
    /// What larder export, docker save, or any program that writes OCI archives has written; - for
    /// a file on standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Call the only image of the file this
    #[arg(long = "as", value_name = "IMAGE")]
    name: Option<Image>,
    /// Let a pushed tag name what the file says, even if it names something else now, and a
    /// mirrored one even if it was checked later
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    carrying: Carrying,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), String> {
    let config = arguments.carrying.begin()?;
    let of_file = |error: &dyn std::fmt::Display| format!("{}: {error}", arguments.file.display());
    // Before the store: a file that is refused leaves nothing at all.
    let archive = if arguments.file == Path::new("-") {
        let file = io::stdin().as_fd().try_clone_to_owned();
        let file = file.map_err(|error| of_file(&error))?;
        Archive::of(File::from(file), SystemTime::now())
    } else {
        Archive::open(&arguments.file, SystemTime::now())
    };
    let archive = archive.map_err(|error| of_file(&error))?;
    let root = &config.storage.root;
    let store = Store::open_beside(root).map_err(|error| error.to_string())?;
    let names = parts::names(&config, &store)?;
    let import = Import {
        store: &store,
        names: &names,
        archive: &archive,
        force: arguments.force,
        name: arguments.name.as_ref(),
    };
    let ready = import.plan().map_err(|error| of_file(&error))?;
    let bytes = ready.bytes + ready.checked_bytes;
    let free = rustix::fs::statvfs(root).ok();
    let free = free.map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    let moved = arguments
        .carrying
        .moving(bytes, |watch| ready.run(free, watch));
    let (taken, _) = moved.map_err(|error| of_file(&error))?;
    let taken = taken.map_err(|error| match error {
        ImportError::Archive(error) => of_file(&error) + "; nothing has been taken in",
        error => of_file(&error),
    })?;
    report(arguments, &archive, &ready, &taken)
}

fn report(
    arguments: &Arguments,
    archive: &Archive,
    ready: &Ready<'_>,
    taken: &[Taken],
) -> Result<(), String> {
    let mut refused = 0;
    for image in taken {
        let is_refused = matches!(image.done, Done::Refused(_));
        refused += usize::from(is_refused);
        let line = line(image);
        if is_refused {
            say(&line);
        } else if !arguments.carrying.is_quiet() {
            // Whoever listened may have gone.
            drop(writeln!(io::stdout(), "{line}"));
        }
    }
    if !arguments.carrying.is_quiet() {
        let ignored = match archive.ignored() {
            0 => String::new(),
            count => format!("; {count} entries that no image needs were ignored"),
        };
        say(&format!(
            "{} blobs stored ({}), {} were here already{ignored}",
            ready.new_blobs,
            HumanBytes(ready.bytes),
            ready.present
        ));
    }
    match refused {
        0 => Ok(()),
        _ => Err(format!(
            "{refused} of {} images were not imported",
            taken.len()
        )),
    }
}

fn line(image: &Taken) -> String {
    let name = &image.name;
    match &image.done {
        Done::In {
            kind,
            hides,
            already,
        } => {
            let kind = match kind {
                Kind::Local => "local",
                Kind::Mirror => "mirror",
            };
            let absent = match image.absent {
                0 => String::new(),
                count => format!("; {count} that its index lists are not in the file"),
            };
            let subject = image.subject.as_ref();
            let attached = subject.map_or_else(String::new, |to| format!(", attached to {to}"));
            let hides = hides.as_ref().map_or_else(String::new, |hidden| {
                format!(
                    "; clients that use this registry as their mirror get it instead of {hidden}"
                )
            });
            if *already {
                return format!("unchanged {name} ({kind}{attached}): all of it was here{absent}");
            }
            format!("imported {name} ({kind}{attached}){absent}{hides}")
        }
        Done::Newer => format!(
            "kept {name}: the tag here was checked later and names something else (--force takes the bundle's)"
        ),
        Done::Refused(refusal) => format!("refused {name}: {refusal}"),
    }
}
