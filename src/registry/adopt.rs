//! Taking over what a pusher was told need not be sent.
//!
//! Until its first push a bare name (`team/app`) stands for the default upstream's repository. A
//! client that pulled from there and pushes under the same name asks first which blobs are there,
//! is told yes, and sends the manifest alone. What was said then is made true here.

use crate::oci::manifest::{Manifest, Need};
use crate::oci::{Digest, Reference, RepositoryName};
use crate::store::{Push, Repository};

use super::names::{Mirror, Place};
use super::pull::Want;
use super::{Error, Registry, blocking};

/// How deep indexes may be nested in what is taken over.
const DEPTH: usize = 4;

impl Registry {
    /// What of `needs` the repository does not have, after taking over what was promised.
    pub(super) async fn missing(
        &self,
        repository: &Repository,
        needs: &[Need],
    ) -> Result<Vec<Digest>, Error> {
        let mut missing = Vec::new();
        for need in needs {
            if !self.has(repository, need).await? && !self.adopt(repository, need).await {
                let (Need::Blob(digest) | Need::Manifest(digest)) = need;
                missing.push(digest.clone());
            }
        }
        Ok(missing)
    }

    async fn has(&self, repository: &Repository, need: &Need) -> Result<bool, Error> {
        let (repository, need) = (repository.clone(), need.clone());
        blocking(move || match need {
            Need::Blob(digest) => Ok(repository.blob(&digest)?.is_some()),
            Need::Manifest(digest) => repository.has_manifest(&digest),
        })
        .await
    }

    async fn adopt(&self, repository: &Repository, need: &Need) -> bool {
        let (Need::Blob(digest) | Need::Manifest(digest)) = need;
        if !self.inner.memory.has_promised(repository.name(), digest) {
            return false;
        }
        let Some(mirror) = self.names().shadowed_by(repository.name()) else {
            return false;
        };
        match self.take_over(repository, &mirror, need, DEPTH).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(repository = %repository.name(), %digest, %error, "not taken over");
                false
            }
        }
    }

    async fn take_over(
        &self,
        repository: &Repository,
        mirror: &Mirror,
        need: &Need,
        depth: usize,
    ) -> Result<(), Error> {
        let place = Place::Mirror(mirror.clone());
        match need {
            Need::Blob(digest) => {
                let (answer, _) = self.blob(&place, digest, Want::Content).await?;
                // Read to its end: that is when it is verified and stored.
                if let Some(content) = answer.content {
                    let mut reader = content.read(answer.size.saturating_sub(1), answer.size);
                    while reader.next().await?.is_some() {}
                }
                let (repository, digest) = (repository.clone(), digest.clone());
                let linked = blocking(move || repository.link_blob(&digest)).await?;
                linked.then_some(()).ok_or(Error::Vanished)
            }
            Need::Manifest(digest) => {
                let reference = Reference::Digest(digest.clone());
                let (answer, _) = self.manifest(&place, &reference, Want::Content).await?;
                let stored = answer.bytes.ok_or(Error::Vanished)?;
                let mut manifest = Manifest::pushed(&stored.bytes, Some(&stored.media_type))?;
                if depth == 0 {
                    manifest.needs.clear();
                }
                for need in &manifest.needs {
                    Box::pin(self.take_over(repository, mirror, need, depth - 1)).await?;
                }
                let repository = repository.clone();
                let missing = blocking(move || {
                    repository.push_manifest(&Push {
                        digest: &stored.digest,
                        media_type: &stored.media_type,
                        bytes: &stored.bytes,
                        needs: &manifest.needs,
                        subject: manifest.subject.as_ref(),
                        tags: &[],
                    })
                });
                match missing.await? {
                    none if none.is_empty() => Ok(()),
                    missing => Err(Error::ManifestNeeds(missing)),
                }
            }
        }
    }

    /// The default upstream's repository that a name pushed for the first time hides. It is told
    /// once, in the log and to the pusher.
    ///
    /// Daemons that use larder as their mirror cannot say which of the two they mean.
    pub(super) fn hidden_by(&self, name: &RepositoryName) -> Option<RepositoryName> {
        if name.is_single() {
            return None;
        }
        let mirror = self.names().shadowed_by(name)?;
        let hidden = mirror.repository.name();
        tracing::warn!(
            "{name} is now a local repository: clients that use this registry as their mirror get it instead of {hidden}"
        );
        Some(hidden.clone())
    }
}
