//! stub
#![allow(
    missing_docs,
    unused,
    clippy::all,
    clippy::pedantic,
    clippy::unused_async,
    clippy::unimplemented
)]
use crate::oci::*;
use bytes::Bytes;
use std::time::Duration;
#[derive(Clone, Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("nf")]
    NotFound,
    #[error("de")]
    Denied,
    #[error("cr")]
    CredentialsRefused,
    #[error("rl")]
    RateLimited { retry_after: Duration },
    #[error("to")]
    Timeout { what: &'static str },
    #[error("un")]
    Unreachable { reason: String },
    #[error("fa")]
    Failed { status: u16 },
    #[error("mi")]
    Misbehaved { reason: String },
}
#[derive(Debug)]
pub struct Upstream;
#[derive(Clone, Debug)]
pub struct ManifestHead {
    pub digest: Option<Digest>,
    pub media_type: Option<MediaType>,
    pub size: Option<u64>,
}
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    pub bytes: Bytes,
    pub media_type: Option<MediaType>,
}
pub struct BlobStream;
impl BlobStream {
    pub fn size(&self) -> Option<u64> {
        None
    }
    pub async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        unimplemented!()
    }
}
impl Upstream {
    pub fn name(&self) -> &str {
        "x"
    }
    pub async fn head_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestHead, UpstreamError> {
        unimplemented!()
    }
    pub async fn get_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<FetchedManifest, UpstreamError> {
        unimplemented!()
    }
    pub async fn blob_size(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<u64, UpstreamError> {
        unimplemented!()
    }
    pub async fn get_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: u64,
    ) -> Result<BlobStream, UpstreamError> {
        unimplemented!()
    }
    pub async fn list_tags(&self, name: &RepositoryName) -> Result<Vec<Tag>, UpstreamError> {
        unimplemented!()
    }
}
#[derive(Clone, Debug)]
pub struct Credentials {
    pub username: String,
    pub password: String,
}
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: String,
    pub url: url::Url,
    pub credentials: Option<Credentials>,
    pub ca: Option<std::path::PathBuf>,
    pub token_hosts: Vec<String>,
}
impl Upstream {
    pub fn new(s: Settings) -> Result<Self, String> {
        Ok(Upstream)
    }
}
