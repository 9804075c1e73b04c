//! The list of a repository's tags.

use serde::Deserialize;

use super::client::Client;
use super::error::UpstreamError;
use super::pages;
use crate::oci::{RepositoryName, Tag};

/// What go-containerregistry asks for everywhere; registries with smaller pages give those.
const PAGE: &str = "n=1000";

#[derive(Deserialize)]
struct Page {
    /// `null` in a repository without tags.
    tags: Option<Vec<String>>,
}

/// Every tag, in the upstream's order. One that breaks the grammar cannot be asked for either,
/// and is left out.
pub(super) async fn list(
    client: &Client,
    name: &RepositoryName,
) -> Result<Vec<Tag>, UpstreamError> {
    let mut url = client.endpoint(&format!("{name}/tags/list"));
    url.set_query(Some(PAGE));
    let mut tags = Vec::new();
    pages::read(client, name, url, "tags", |body| {
        let page: Page = serde_json::from_slice(&body)
            .map_err(|_| UpstreamError::misbehaved("a list of tags that is no JSON"))?;
        let texts = page.tags.unwrap_or_default();
        tags.extend(texts.iter().filter_map(|text| text.parse().ok()));
        Ok(())
    })
    .await?;
    Ok(tags)
}
