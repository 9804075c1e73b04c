//! Images on a command line: one by one, or as a list.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::Config;
use crate::oci::{Image, Platform};

/// The images that a command is about.
#[derive(Clone, Debug, Args)]
pub(super) struct Images {
    /// The images, named as docker names them: python:3.12, ghcr.io/org/app
    #[arg(value_name = "IMAGE")]
    named: Vec<Image>,
    /// A file with one image per line; # begins a comment, and - is the standard input
    #[arg(short = 'f', long = "file", value_name = "LIST")]
    lists: Vec<PathBuf>,
}

/// What of images for several platforms a command is about.
#[derive(Clone, Debug, Args)]
pub(super) struct Platforms {
    /// Only what runs on this platform, as linux/amd64; may be repeated [default: all]
    #[arg(long = "platform", value_name = "PLATFORM")]
    pub(super) list: Vec<Platform>,
}

impl Images {
    /// Whether none are named.
    pub(super) fn are_none(&self) -> bool {
        self.named.is_empty() && self.lists.is_empty()
    }

    /// All of them, in order, each once. Lists that name none between them are a mistake: what is
    /// meant where nothing is named is not meant then.
    pub(super) fn read(&self) -> Result<Vec<Image>, String> {
        let images = self.listed()?;
        match self.lists.first() {
            Some(list) if images.is_empty() => Err(format!("{} names no image", shown(list))),
            _ => Ok(images),
        }
    }

    /// The same where images are named in other ways, too.
    pub(super) fn listed(&self) -> Result<Vec<Image>, String> {
        let mut images = self.named.clone();
        for list in &self.lists {
            images.extend(parse(list, &read(list)?)?);
        }
        Ok(unique(images))
    }
}

/// Each once, where it was first.
pub(super) fn unique(images: Vec<Image>) -> Vec<Image> {
    let mut seen = std::collections::HashSet::new();
    images
        .into_iter()
        .filter(|image| seen.insert(image.to_string()))
        .collect()
}

/// How many images.
pub(super) fn number(images: usize) -> String {
    let plural = if images == 1 { "" } else { "s" };
    format!("{images} image{plural}")
}

/// What is meant where nothing is named: the images of the configuration, for its platforms.
pub(super) fn or_configured(
    images: Vec<Image>,
    platforms: &[Platform],
    config: &Config,
) -> Result<(Vec<Image>, Vec<Platform>), String> {
    let warm = &config.cache.warm;
    if !images.is_empty() {
        return Ok((images, platforms.to_vec()));
    }
    if warm.images.is_empty() {
        return Err(
            "which images? Name them, or a list with -f, or put them under cache.warm in the configuration"
                .to_owned(),
        );
    }
    let platforms = if platforms.is_empty() {
        &warm.platforms
    } else {
        platforms
    };
    Ok((unique(warm.images.clone()), platforms.to_vec()))
}

/// The platform of this machine.
pub(super) fn this_machine() -> Platform {
    Platform::of_this_machine()
}

/// Reads a file, or the standard input.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        read.map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|error| format!("cannot read {}: {error}", shown(path)))
}

/// A list as messages call it.
fn shown(path: &Path) -> String {
    if path == Path::new("-") {
        "the standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

fn parse(path: &Path, text: &str) -> Result<Vec<Image>, String> {
    // Windows editors put a mark before the first line.
    let text = text.trim_start_matches('\u{feff}');
    let named = text.lines().enumerate().filter_map(|(at, line)| {
        let line = line.split('#').next().unwrap_or_default().trim();
        (!line.is_empty()).then_some((at + 1, line))
    });
    let image = |(line, text): (usize, &str)| {
        text.parse().map_err(|error| {
            let path = shown(path);
            format!("{path}:{line}: {text:?} names no image: {error}")
        })
    };
    named.map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_an_image_per_line() {
        let text = "\u{feff}# for class\npython:3.12\r\n\n  ghcr.io/org/app # ours\npython:3.12\n";
        let images = unique(parse(Path::new("l"), text).unwrap());
        let images: Vec<_> = images.iter().map(ToString::to_string).collect();
        assert_eq!(images, ["python:3.12", "ghcr.io/org/app:latest"]);
        let error = parse(Path::new("l"), "python\nno image\n").unwrap_err();
        assert!(
            error.starts_with("l:2: \"no image\" names no image: "),
            "{error}"
        );
    }
}
