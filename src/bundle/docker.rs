//! Docker's own archives: what `docker save` writes is read, and what `docker load` wants to find
//! is written.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::oci::manifest::Need;
use crate::oci::{Digest, MediaType, PlatformName, RepositoryName, media};

use super::archive::{Bytes, Form, Found, Listed, Named, Reading, Wanted};
use super::error::{ArchiveError, Bad};
use super::form;
use super::tar::{Entries, Span};

/// A layer that is not compressed.
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// The configs of images that docker can run.
const CONFIGS: [&str; 2] = [
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
];

#[derive(Deserialize)]
struct Runnable {
    config: form::Descriptor,
    layers: Vec<form::Descriptor>,
}

/// Of the platforms of an image, the one that most machines are; `docker load` knows only one.
pub(super) fn prefer(best: &mut Option<Vec<u8>>, bytes: &[u8], platform: Option<&PlatformName>) {
    let is_common = platform.is_some_and(|platform| {
        platform.os.as_deref() == Some("linux") && platform.architecture.as_deref() == Some("amd64")
    });
    if (best.is_none() || is_common) && runnable(bytes).is_some() {
        *best = Some(bytes.to_vec());
    }
}

fn runnable(bytes: &[u8]) -> Option<Runnable> {
    let image: Runnable = serde_json::from_slice(bytes).ok()?;
    let config = image.config.media_type.as_deref().unwrap_or_default();
    CONFIGS.contains(&config).then_some(image)
}

/// An image as `manifest.json` lists it.
pub(super) fn saved(bytes: &[u8], name: &str) -> Option<form::Saved> {
    let image = runnable(bytes)?;
    let path = |descriptor: &form::Descriptor| {
        let digest: Digest = descriptor.digest.parse().ok()?;
        Some(form::blob_name(&digest))
    };
    let layers: Option<Vec<String>> = image.layers.iter().map(path).collect();
    Some(form::Saved {
        config: path(&image.config)?,
        // It takes tags only.
        tags: Some(
            Some(name.to_owned())
                .filter(|name| !name.contains('@'))
                .into_iter()
                .collect(),
        ),
        layers: Some(layers?),
    })
}

/// A local image's name as docker completes it.
pub(super) fn full_name(name: &str, repository: &RepositoryName) -> String {
    if super::plan::names_a_registry(repository) {
        name.to_owned()
    } else if repository.is_single() {
        format!("docker.io/library/{name}")
    } else {
        format!("docker.io/{name}")
    }
}

/// The other way round.
pub(super) fn short_name(name: &str) -> &str {
    let rest = name.strip_prefix("docker.io/").unwrap_or(name);
    match rest.strip_prefix("library/") {
        Some(short) if rest.len() < name.len() => short,
        _ => rest,
    }
}

/// The largest config.
const MAX_CONFIG: u64 = 8 << 20;

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// The images that `manifest.json` lists. Archives of docker before version 25 have layers as they
/// are unpacked and no manifests: one is made, which says so.
pub(super) fn images(reading: &mut Reading<'_>) -> Result<Vec<Found>, ArchiveError> {
    let mut images = Vec::new();
    for saved in reading.list_of_saved()? {
        let (bytes, blobs) = made(reading, &saved)?;
        let names: Vec<Named> = match saved.tags {
            // Docker writes short names, skopeo full ones, and both mean the same.
            Some(tags) if !tags.is_empty() => {
                let named = |name: &String| Named::Docker(short_name(name).to_owned());
                tags.iter().map(named).collect()
            }
            _ => vec![Named::Not],
        };
        for named in names {
            images.push(Found {
                named,
                subject: None,
                manifests: vec![Listed {
                    digest: Digest::of(&bytes),
                    media_type: MediaType::known(media::DOCKER_MANIFEST),
                    needs: blobs
                        .iter()
                        .map(|it| Need::Blob(it.digest.clone()))
                        .collect(),
                    subject: None,
                    bytes: Bytes::Made(bytes.clone()),
                }],
                blobs: blobs.clone(),
                absent: 0,
            });
        }
    }
    if images.is_empty() {
        return Err(ArchiveError::NoImages);
    }
    Ok(images)
}

/// The manifest of a saved image, and its blobs.
fn made(
    reading: &mut Reading<'_>,
    saved: &form::Saved,
) -> Result<(Vec<u8>, Vec<Wanted>), ArchiveError> {
    let config_bytes = reading.bytes(&saved.config, MAX_CONFIG)?;
    let content = |text: String| Bad::Content(text).at(&saved.config);
    let config: Config =
        serde_json::from_slice(&config_bytes).map_err(|error| content(error.to_string()))?;
    let diff_ids = config.rootfs.diff_ids.unwrap_or_default();
    let paths = saved.layers.as_deref().unwrap_or_default();
    if diff_ids.len() != paths.len() {
        return Err(content("it lists another number of layers".into()));
    }
    let wanted = |digest: Digest, name: &str| Wanted {
        digest,
        span: reading.entries.files.get(name).copied(),
        entry: name.to_owned(),
    };
    let mut blobs = vec![wanted(Digest::of(&config_bytes), &saved.config)];
    let mut layers = Vec::new();
    for (path, diff_id) in paths.iter().zip(&diff_ids) {
        let name = followed(reading.entries, path);
        let digest: Result<Digest, _> = diff_id.parse();
        let layer = wanted(digest.map_err(|error| content(error.to_string()))?, name);
        let span = layer.span.ok_or_else(|| Bad::Missing.at(name))?;
        refuse_packed(reading.file, span, name)?;
        layers.push(described(LAYER, &layer.digest, span.size));
        if blobs.iter().all(|it| it.digest != layer.digest) {
            blobs.push(layer);
        }
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::DOCKER_MANIFEST,
        "config": described(CONFIGS[0], &blobs[0].digest, config_bytes.len() as u64),
        "layers": layers,
    });
    Ok((manifest.to_string().into_bytes(), blobs))
}

fn described(media_type: &str, digest: &Digest, size: u64) -> Value {
    json!({ "mediaType": media_type, "size": size, "digest": digest.as_str() })
}

/// Only of an unpacked layer the config tells the digest.
fn refuse_packed(file: &File, span: Span, name: &str) -> Result<(), ArchiveError> {
    let mut magic = [0; 2];
    let read = file.read_at(&mut magic, span.offset)?;
    if span.size >= 2 && magic[..read] == *b"\x1f\x8b" {
        let text = "a compressed layer, which docker save does not write: convert the archive with skopeo copy docker-archive:… oci-archive:…";
        return Err(Bad::Content(text.into()).at(name));
    }
    Ok(())
}

/// Docker before version 25 wrote a layer that an earlier image has as a link to it, and skopeo and
/// buildah write all of docker's old names as links.
fn followed<'a>(entries: &'a Entries, path: &'a str) -> &'a str {
    let target = entries.links.get(path);
    let target = target.and_then(|target| target.strip_prefix("../"));
    target.unwrap_or(path)
}

/// The only symbolic links that are let through: from a layer's old name to a layer that is in the
/// archive, as docker wrote them (`<id>/layer.tar`), and skopeo does (`<digest>.tar`).
pub(super) fn judge_links(entries: &Entries, form: Form) -> Result<(), ArchiveError> {
    let is_id = |id: &str| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has = |name: &str, end| name.strip_suffix(end).is_some_and(is_id);
    let is_layer = |name: &str| has(name, "/layer.tar");
    let is_dockers = |(name, target): (&String, &String)| {
        let target = target.strip_prefix("../").unwrap_or_default();
        form == Form::Docker
            && is_layer(name)
            && (is_layer(target) || has(target, ".tar"))
            && entries.files.contains_key(target)
    };
    let bad = entries.links.iter().find(|link| !is_dockers(*link));
    bad.map_or(Ok(()), |(name, _)| Err(Bad::SymbolicLink.at(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_and_shortened_as_docker_does() {
        for (short, full) in [
            ("python:3", "docker.io/library/python:3"),
            ("team/app:1", "docker.io/team/app:1"),
            ("ghcr.io/a/b:1", "ghcr.io/a/b:1"),
        ] {
            let repository = short.split(':').next().unwrap().parse().unwrap();
            assert_eq!(full_name(short, &repository), full);
            assert_eq!(short_name(full), short);
        }
        assert_eq!(short_name("library/x:1"), "library/x:1");
    }
}
