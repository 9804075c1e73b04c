//! Upstreams: other registries, asked for what is not in the store.
//!
//! An [`Upstream`] is a client for one registry: it identifies itself, follows redirects, retries,
//! resumes, and keeps to rate limits. It decides nothing about caching, knows neither the store
//! nor who is asking, and sends requests to nobody but the upstream and whom the upstream names.
//! Types of the HTTP library stay in here.
//!
//! From the wire upwards: `address` and `tls` say whom to connect to, `transport` sends one
//! request and follows where it leads, `retry` sends it again, `challenge`, `token` and
//! `credentials` say how to identify ourselves and `grant` does it, `client` puts all that
//! together, `pages` reads lists, and `manifest`, `blob`, `tags` and `referrers` each make something
//! of the answers; `larder` asks one of our own for what its page shows. Whether to ask at all is for `line` (may we?), `availability` (is anybody
//! there?) and `budget` (how often still?).

mod address;
mod availability;
mod blob;
mod budget;
pub mod challenge;
mod client;
mod credentials;
mod error;
mod grant;
mod hello;
mod larder;
mod line;
mod manifest;
mod pages;
mod referrers;
mod retry;
mod settings;
mod tags;
mod tls;
mod token;
mod transport;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::metrics::Source;
use crate::oci::{Digest, Reference, Referrer, RepositoryName, Tag};

pub use availability::{Presence, Standing};
pub use blob::BlobStream;
pub use budget::{Budget, Share};
pub use credentials::Credentials;
pub use error::{SetupError, UpstreamError};
pub use hello::Hello;
pub use manifest::{FetchedManifest, ManifestHead};
pub use retry::ByKind;
pub use settings::{Settings, Timeouts};

/// A registry to fetch from. Clones share connections, tokens, and what is known of rate limits.
#[derive(Clone, Debug)]
pub struct Upstream {
    client: Arc<client::Client>,
}

impl Upstream {
    /// Gets ready to ask. Reads the `ca` file, and touches no network.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        Self::with_timeouts(settings, Timeouts::default())
    }

    /// The same, with other patience.
    pub fn with_timeouts(settings: Settings, timeouts: Timeouts) -> Result<Self, SetupError> {
        let client = client::Client::new(settings, timeouts)?;
        Ok(Self {
            client: Arc::new(client),
        })
    }

    /// A mirror that is asked for the images of another registry, as containerd asks: with `ns`.
    pub fn for_namespace(
        settings: Settings,
        timeouts: Timeouts,
        namespace: &str,
    ) -> Result<Self, SetupError> {
        let mut client = client::Client::new(settings, timeouts)?;
        client.namespace = Some(namespace.to_owned());
        Ok(Self {
            client: Arc::new(client),
        })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.client.name
    }

    /// Where it is asked, to be shown.
    pub fn url(&self) -> String {
        self.client.shown_url()
    }

    /// Asks nobody while `allowed` says no, and hangs up within moments when it begins to: then
    /// everything fails as [offline](UpstreamError::Offline). It is asked often, and must be quick.
    pub fn ask_only_while(&self, allowed: impl Fn() -> bool + Send + Sync + 'static) {
        self.client.transport.line.open_while(allowed);
    }

    /// Counts there what is asked and what comes. The first to say so is heard.
    pub fn count_by(&self, source: Source) {
        // What was there first is the same upstream's, from before a reload.
        _ = self.client.transport.source.set(source);
    }

    /// What can be expected of it. Who has a copy to serve looks here before he asks.
    pub fn presence(&self) -> Presence {
        self.client.presence()
    }

    /// Takes note that a client has waited for an answer since `asked`, and was then served a copy.
    pub fn waited_in_vain(&self, asked: Instant) {
        self.client.availability.waited_in_vain(asked);
    }

    /// Since when it is up or down.
    pub fn standing(&self) -> Standing {
        self.client.availability.standing()
    }

    /// How many pulls it still allows; `None` where it has not told, or long ago.
    pub fn budget(&self) -> Option<Budget> {
        self.client
            .budget()
            .filter(|budget| budget.holds(SystemTime::now()))
    }

    /// Until when it wants to be left alone, with whatever it was, as it said with a 429.
    pub fn limited_until(&self) -> Option<SystemTime> {
        self.limits().greatest()
    }

    /// The same of each kind of question.
    pub fn limits(&self) -> ByKind<Option<SystemTime>> {
        self.client.limits()
    }

    /// A mark of where it is and as whom it is asked, that is another one for another account.
    pub fn asker(&self) -> &str {
        &self.client.asker
    }

    /// Goes on with what it said to an earlier process of ours: to be left alone for so long with
    /// each kind of question, and how many pulls it allowed then.
    pub fn recall(&self, left_alone: ByKind<Duration>, budget: Option<Budget>) {
        self.client.recall(left_alone, budget);
    }

    /// Forgets that it was down or wanted to be left alone: the next question is sent.
    pub fn ask_again(&self) {
        self.client.ask_again();
    }

    /// Whether anybody is there, asked once and without saying who we are.
    pub async fn hello(&self) -> Result<Hello, UpstreamError> {
        let asking = hello::hello(&self.client);
        self.client.transport.line.until_cut(asking).await
    }

    /// What an upstream that is a larder answers below `/api/v1/`, as `docs/api.md` has it: asked
    /// once, and with the credentials from the start. Anything but a 200 is an error, and so is an
    /// HTML page.
    pub async fn larder(&self, path: &str, query: &[(&str, &str)]) -> Result<Bytes, UpstreamError> {
        let asking = larder::read(&self.client, path, query);
        self.client.transport.line.until_cut(asking).await
    }

    /// What a reference names now. Free at Docker Hub, where every GET counts as a pull.
    pub async fn head_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestHead, UpstreamError> {
        let asking = manifest::head(&self.client, name, reference);
        self.client.transport.line.until_cut(asking).await
    }

    /// A whole manifest of at most [`MAX_SIZE`](crate::oci::manifest::MAX_SIZE) bytes, verified
    /// against the digest asked for, or, by tag, against the one the upstream declares.
    pub async fn get_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<FetchedManifest, UpstreamError> {
        let asking = manifest::get(&self.client, name, reference);
        self.client.transport.line.until_cut(asking).await
    }

    /// Asks once more for what was refused, for the words in which the registry refuses it. To be
    /// shown to people only; `None` where it has none, or does not refuse it any more.
    pub async fn complaint(&self, name: &RepositoryName, reference: &Reference) -> Option<String> {
        manifest::complaint(&self.client, name, reference).await
    }

    /// The size of a blob, which proves that the repository has it.
    pub async fn blob_size(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<u64, UpstreamError> {
        let asking = blob::size(&self.client, name, digest);
        self.client.transport.line.until_cut(asking).await
    }

    /// What an upstream that is itself a cache says of a blob without sending it: `X-Cache`.
    pub async fn blob_in_cache(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<String>, UpstreamError> {
        let asking = blob::in_cache(&self.client, name, digest);
        self.client.transport.line.until_cut(asking).await
    }

    /// The bytes of a blob from offset `from` on, **not** verified.
    pub async fn get_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: u64,
    ) -> Result<BlobStream, UpstreamError> {
        let opening = BlobStream::open(Arc::clone(&self.client), name, digest, from);
        self.client.transport.line.until_cut(opening).await
    }

    /// All tags of a repository, in the upstream's order.
    pub async fn list_tags(&self, name: &RepositoryName) -> Result<Vec<Tag>, UpstreamError> {
        let asking = tags::list(&self.client, name);
        self.client.transport.line.until_cut(asking).await
    }

    /// All referrers of a manifest. A registry without the referrers API has
    /// [none to list](UpstreamError::NotFound).
    pub async fn list_referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Referrer>, UpstreamError> {
        let asking = referrers::list(&self.client, name, subject);
        self.client.transport.line.until_cut(asking).await
    }
}
