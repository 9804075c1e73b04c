//! The client for upstreams against a hub with faults: what it asks, of whom, and how often.

mod blobs;
mod credentials;
mod failures;
mod manifests;
mod network;
mod redirects;
mod tags;
mod tokens;

use std::time::Duration;

use larder::oci::media::MANIFESTS;
use larder::oci::{Digest, Reference, RepositoryName};
use larder::upstream::{BlobStream, Credentials, Settings, Timeouts, Upstream, UpstreamError};

use crate::support::hub::{Asked, Hub, Kind, Listener, Where};

const TYPE: &str = MANIFESTS[1];
const MANIFEST: &str = r#"{"schemaVersion":2,"note":"any bytes will do"}"#;

fn settings(hub: &Hub) -> Settings {
    Settings {
        name: "hub.test".to_owned(),
        url: hub.url().parse().unwrap(),
        credentials: None,
        ca: None,
        token_hosts: vec![hub.token_host()],
    }
}

/// With little patience, so that a test that waits in vain does not wait for long.
fn with(settings: Settings) -> Upstream {
    let millis = Duration::from_millis;
    let timeouts = Timeouts {
        connect: millis(200),
        headers: millis(500),
        exchange: millis(4000),
        idle: millis(300),
        token: millis(500),
        backoff: millis(5),
    };
    Upstream::with_timeouts(settings, timeouts).unwrap()
}

fn upstream(hub: &Hub) -> Upstream {
    with(settings(hub))
}

fn logged_in(hub: &Hub, password: &str) -> Upstream {
    let (username, password) = ("me".to_owned(), password.to_owned());
    let credentials = Some(Credentials { username, password });
    with(Settings {
        credentials,
        ..settings(hub)
    })
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Reference {
    text.parse().unwrap()
}

/// A manifest as `a/b:latest`; its digest.
fn manifest(hub: &Hub) -> String {
    hub.put_manifest("a/b", Some("latest"), TYPE, MANIFEST)
}

async fn get(upstream: &Upstream) -> Result<Vec<u8>, UpstreamError> {
    let manifest = upstream.get_manifest(&name("a/b"), &tag("latest")).await?;
    Ok(manifest.bytes.to_vec())
}

/// Half a megabyte without a pattern, as a blob of `a/b`.
fn blob(hub: &Hub) -> (Vec<u8>, Digest) {
    let bytes: Vec<u8> = (0..131_072_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let digest = hub.put_blob("a/b", bytes.clone()).parse().unwrap();
    (bytes, digest)
}

async fn open(
    upstream: &Upstream,
    digest: &Digest,
    from: u64,
) -> Result<BlobStream, UpstreamError> {
    upstream.get_blob(&name("a/b"), digest, from).await
}

async fn rest(stream: &mut BlobStream) -> Result<Vec<u8>, UpstreamError> {
    let mut all = Vec::new();
    while let Some(bytes) = stream.next().await? {
        assert!(!bytes.is_empty());
        all.extend_from_slice(&bytes);
    }
    assert_eq!(stream.next().await, Ok(None), "the end is the end");
    Ok(all)
}

async fn fetch(upstream: &Upstream, digest: &Digest) -> Result<Vec<u8>, UpstreamError> {
    rest(&mut open(upstream, digest, 0).await?).await
}

fn misbehaves<T: std::fmt::Debug>(result: Result<T, UpstreamError>, about: &str) {
    match result {
        Err(UpstreamError::Misbehaved { reason }) => assert!(reason.contains(about), "{reason:?}"),
        other => panic!("not misbehaviour: {other:?}"),
    }
}

fn statuses(hub: &Hub, kind: Kind) -> Vec<u16> {
    hub.asked()
        .iter()
        .filter(|asked| asked.kind == kind)
        .map(Asked::status)
        .collect()
}

fn manifests() -> Where {
    Where::manifests()
}

/// Every `Authorization` that came to that port.
fn carried(hub: &Hub, listener: Listener) -> Vec<String> {
    let asked = hub.asked();
    let headers = asked.iter().filter(|asked| asked.listener == listener);
    headers
        .filter_map(|asked| asked.header("authorization").map(str::to_owned))
        .collect()
}
