//! Everything that one image is made of, as far as it is here and wanted.

use serde::Deserialize;

use crate::oci::{Digest, Platform, PlatformName};
use crate::store::{Blob, Repository, StoredManifest};

use super::docker;
use super::error::ExportError;
use super::tree::{Child, Made};

/// What one image brings, until it is known that it is whole.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) manifests: Vec<(Digest, u64)>,
    pub(super) blobs: Vec<(Digest, u64)>,
    pub(super) platforms: Vec<String>,
    pub(super) left_out: Vec<String>,
    /// What `docker load` is to take.
    pub(super) runnable: Option<Vec<u8>>,
}

impl Gathered {
    /// Its manifests.
    pub(super) fn digests(&self) -> Vec<Digest> {
        let manifests = self.manifests.iter();
        manifests.map(|(digest, _)| digest.clone()).collect()
    }
}

/// What a config says that its image runs on.
#[derive(Deserialize)]
struct RunsOn {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// Looks at one image.
pub(super) struct Gathering<'a> {
    pub(super) repository: &'a Repository,
    /// The platforms to take; all that are here, if there is none.
    pub(super) platforms: &'a [Platform],
    pub(super) image: &'a str,
}

impl Gathering<'_> {
    /// Takes a manifest that may go, with all that it needs.
    pub(super) fn manifest(
        &self,
        stored: &StoredManifest,
        platform: Option<&PlatformName>,
        depth: usize,
        found: &mut Gathered,
    ) -> Result<(), ExportError> {
        let unreadable = |reason| ExportError::Manifest {
            image: self.image.to_owned(),
            reason,
        };
        let size = stored.bytes.len() as u64;
        match Made::of(&stored.bytes).map_err(unreadable)? {
            Made::Children(_) if depth == 0 => {
                return Err(unreadable("its indexes are nested too deep".into()));
            }
            Made::Children(children) => self.children(&children, depth - 1, found)?,
            Made::Blobs { needed, welcome } => {
                for (at, part) in needed.into_iter().enumerate() {
                    let blob = self.repository.blob(&part.digest)?;
                    let blob = blob.ok_or_else(|| self.incomplete(platform, &part.digest))?;
                    if at == 0 && platform.is_none() {
                        self.refuse_other_platform(&blob)?;
                    }
                    found.blobs.push((part.digest, blob.size()));
                }
                for digest in welcome {
                    if let Some(blob) = self.repository.blob(&digest)? {
                        found.blobs.push((digest, blob.size()));
                    }
                }
                docker::prefer(&mut found.runnable, &stored.bytes, platform);
            }
        }
        found.manifests.push((stored.digest.clone(), size));
        Ok(())
    }

    /// An image without an index says in its config what it runs on.
    fn refuse_other_platform(&self, config: &Blob) -> Result<(), ExportError> {
        const LARGEST: usize = 1 << 20;
        let asked = self.platforms;
        if asked.is_empty() {
            return Ok(());
        }
        let bytes = config.read_at(0, LARGEST).unwrap_or_default();
        // An artifact is for every platform.
        let Ok(runs_on) = serde_json::from_slice::<RunsOn>(&bytes) else {
            return Ok(());
        };
        let name = PlatformName {
            os: Some(runs_on.os),
            architecture: Some(runs_on.architecture),
            variant: runs_on.variant,
        };
        if asked.iter().any(|asked| asked.fits(&name)) {
            return Ok(());
        }
        Err(self.not_for(asked))
    }

    fn not_for(&self, asked: &[Platform]) -> ExportError {
        let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
        ExportError::Platform {
            image: self.image.to_owned(),
            platform: asked.join(" or "),
        }
    }

    /// Takes those children that are wanted and wholly here.
    fn children(
        &self,
        children: &[Child],
        depth: usize,
        found: &mut Gathered,
    ) -> Result<(), ExportError> {
        let asked = self.platforms;
        let mut not_whole = None;
        let mut taken = 0;
        for child in children {
            let platform = child.platform.as_ref();
            let shown = platform.map_or_else(|| child.part.digest.to_string(), ToString::to_string);
            let fits = |asked: &Platform| platform.is_some_and(|name| asked.fits(name));
            if !asked.is_empty() && !asked.iter().any(fits) {
                found.left_out.push(shown);
                continue;
            }
            match self.child(child, depth) {
                Ok(whole) => {
                    found.manifests.extend(whole.manifests);
                    found.blobs.extend(whole.blobs);
                    found.left_out.extend(whole.left_out);
                    if let Some(bytes) = whole.runnable {
                        docker::prefer(&mut found.runnable, &bytes, platform);
                    }
                    found.platforms.push(shown);
                    taken += 1;
                }
                // What was asked for by name is to be there; else a mirror has what was pulled.
                Err(error @ ExportError::Incomplete { .. }) if asked.is_empty() => {
                    found.left_out.push(shown);
                    not_whole.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if taken == 0 && !asked.is_empty() {
            return Err(self.not_for(asked));
        }
        match not_whole {
            Some(error) if taken == 0 => Err(error),
            _ => Ok(()),
        }
    }

    fn child(&self, child: &Child, depth: usize) -> Result<Gathered, ExportError> {
        let platform = child.platform.as_ref();
        let stored = self.repository.manifest(&child.part.digest)?;
        let stored = stored.ok_or_else(|| self.incomplete(platform, &child.part.digest))?;
        let mut found = Gathered::default();
        self.manifest(&stored, platform, depth, &mut found)?;
        Ok(found)
    }

    fn incomplete(&self, platform: Option<&PlatformName>, missing: &Digest) -> ExportError {
        ExportError::Incomplete {
            image: self.image.to_owned(),
            platform: platform.map(ToString::to_string),
            missing: missing.clone(),
        }
    }
}
