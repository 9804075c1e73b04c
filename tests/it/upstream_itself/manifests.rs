//! Manifests: what is asked, and what is refused.

use larder::oci::media::MANIFESTS;
use larder::oci::{Digest, Reference};
use larder::upstream::UpstreamError;

use super::{MANIFEST, TYPE, get, manifest, manifests, misbehaves, name, open, tag, upstream};
use crate::support::hub::{Fault, Hub, What};

#[tokio::test]
async fn a_manifest_is_asked_for_with_the_same_headers_always() {
    let hub = Hub::start().await;
    let digest: Digest = manifest(&hub).parse().unwrap();
    let upstream = upstream(&hub);
    let head = upstream
        .head_manifest(&name("a/b"), &tag("latest"))
        .await
        .unwrap();
    assert_eq!(head.digest, Some(digest.clone()));
    assert_eq!(head.media_type.unwrap().as_str(), TYPE);
    assert_eq!(head.size, Some(MANIFEST.len() as u64));
    for reference in [tag("latest"), Reference::Digest(digest)] {
        let fetched = upstream
            .get_manifest(&name("a/b"), &reference)
            .await
            .unwrap();
        assert_eq!(fetched.bytes, MANIFEST);
        assert_eq!(fetched.media_type.unwrap().as_str(), TYPE);
    }
    let asked = hub.asked();
    assert_eq!(asked.len(), 3);
    for asked in asked {
        assert_eq!(asked.header("accept"), Some(MANIFESTS.join(", ").as_str()));
        assert_eq!(asked.header("accept-encoding"), Some("identity"));
        assert!(asked.header("user-agent").unwrap().starts_with("larder/"));
        for absent in ["authorization", "referer", "cookie", "range"] {
            assert_eq!(asked.header(absent), None);
        }
    }
    assert_eq!(hub.connections(), 1, "one connection is enough");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let hub = Hub::start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    let missing = Digest::of(b"missing");
    let not_found = Some(UpstreamError::NotFound);
    assert_eq!(
        upstream
            .get_manifest(&name("a/b"), &tag("other"))
            .await
            .err(),
        not_found
    );
    assert_eq!(
        upstream
            .head_manifest(&name("a/c"), &tag("latest"))
            .await
            .err(),
        not_found
    );
    assert_eq!(
        upstream.blob_size(&name("a/b"), &missing).await.err(),
        not_found
    );
    assert_eq!(open(&upstream, &missing, 0).await.err(), not_found);
    assert_eq!(upstream.list_tags(&name("a/c")).await.err(), not_found);
}

#[tokio::test]
async fn a_manifest_that_is_not_what_it_says_is_refused() {
    let hub = Hub::start().await;
    let digest = manifest(&hub).parse().unwrap();
    let upstream = upstream(&hub);
    for (what, about) in [
        (What::WrongDigestHeader, "bytes are not those"),
        (What::FlipBit(3), "bytes are not those"),
        (What::Html, "HTML"),
        (What::Gzip, "identity"),
        (What::Endless, "more than"),
        (What::Body(vec![b' '; 5 << 20]), "more than"),
        (What::Header("content-length", "7".to_owned()), "not HTTP"),
    ] {
        hub.fault(Fault::on(manifests()).does(what.clone()).times(1));
        misbehaves(get(&upstream).await, about);
        hub.heal_all();
    }
    // By digest the bytes decide, and a header that lies about them changes nothing.
    hub.fault(
        Fault::on(manifests())
            .does(What::FlipBit(3))
            .does(What::NoDigestHeader)
            .times(1),
    );
    let reference = Reference::Digest(digest);
    misbehaves(
        upstream.get_manifest(&name("a/b"), &reference).await,
        "bytes are not those",
    );
    hub.fault(
        Fault::on(manifests())
            .does(What::WrongDigestHeader)
            .times(1),
    );
    assert!(
        upstream
            .get_manifest(&name("a/b"), &reference)
            .await
            .is_ok()
    );
    hub.fault(Fault::on(manifests()).does(What::Html).times(1));
    misbehaves(
        upstream.head_manifest(&name("a/b"), &reference).await,
        "HTML",
    );
    hub.fault(
        Fault::on(manifests())
            .does(What::WrongDigestHeader)
            .times(1),
    );
    misbehaves(
        upstream.head_manifest(&name("a/b"), &reference).await,
        "asked for",
    );
}

#[tokio::test]
async fn a_manifest_needs_no_headers() {
    let hub = Hub::start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    hub.fault(
        Fault::on(manifests())
            .does(What::NoDigestHeader)
            .does(What::NoContentType)
            .does(What::NoLength),
    );
    let head = upstream
        .head_manifest(&name("a/b"), &tag("latest"))
        .await
        .unwrap();
    assert_eq!(
        (head.digest, head.media_type, head.size),
        (None, None, None)
    );
    let fetched = upstream
        .get_manifest(&name("a/b"), &tag("latest"))
        .await
        .unwrap();
    assert_eq!(
        (fetched.bytes.as_ref(), fetched.media_type),
        (MANIFEST.as_bytes(), None)
    );
}

#[tokio::test]
async fn a_registry_without_head_is_asked_with_get() {
    let hub = Hub::start().await;
    let digest = manifest(&hub);
    for status in [405, 501] {
        hub.fault(
            Fault::on(manifests().head())
                .does(What::Status(status, &[], ""))
                .times(1),
        );
        let head = upstream(&hub)
            .head_manifest(&name("a/b"), &tag("latest"))
            .await
            .unwrap();
        assert_eq!(head.digest.unwrap().as_str(), digest);
        assert_eq!(head.size, Some(MANIFEST.len() as u64));
    }
}

#[tokio::test]
async fn a_manifest_that_breaks_off_is_asked_for_again() {
    let hub = Hub::start().await;
    manifest(&hub);
    for what in [
        What::TruncateAfter(5),
        What::ResetAfter(5),
        What::StallAfter(5),
        What::WrongLength(9),
    ] {
        hub.fault(Fault::on(manifests()).does(what).times(2));
        assert_eq!(get(&upstream(&hub)).await.unwrap(), MANIFEST.as_bytes());
    }
    hub.fault(Fault::on(manifests()).does(What::TruncateAfter(5)));
    hub.clear_log();
    let broken = get(&upstream(&hub)).await;
    assert!(
        matches!(broken, Err(UpstreamError::Unreachable { .. })),
        "{broken:?}"
    );
    assert_eq!(hub.manifest_gets(), 3);
}
