//! The list of a manifest's referrers.

use super::client::Client;
use super::error::UpstreamError;
use super::pages;
use crate::oci::{Digest, Referrer, RepositoryName};

/// Every referrer, of all artifact types: filtering is left to whoever asked for them.
///
/// A registry without the referrers API answers 404: [`UpstreamError::NotFound`].
pub(super) async fn list(
    client: &Client,
    name: &RepositoryName,
    subject: &Digest,
) -> Result<Vec<Referrer>, UpstreamError> {
    let url = client.endpoint(&format!("{name}/referrers/{subject}"));
    let mut referrers = Vec::new();
    pages::read(client, name, url, "referrers", |body| {
        let page = Referrer::read_index(&body)
            .map_err(|error| UpstreamError::misbehaved(error.to_string()))?;
        referrers.extend(page);
        Ok(())
    })
    .await?;
    Ok(referrers)
}
