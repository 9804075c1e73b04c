//! "Listing Referrers" and "Enabling the Referrers API", beyond what every set of data shows.

use std::collections::HashSet;
use std::slice;

use serde_json::{Value, json};

use super::data::{self, ARTIFACT, DataSet, OTHER_ARTIFACT, attached, text};
use super::journey::{put, referrers};
use super::push::{self, Api};
use super::wire::{all_pages, assert_deleted, assert_refused, get, next_page};
use super::{Algorithm, OCI_INDEX, OCI_MANIFEST};
use crate::support::programs::{Larder, Options};

const NAME: &str = "conformance/referrers";

/// Pushes all of a set but its tags.
async fn push_all(larder: &Larder, set: &DataSet) {
    for (digest, bytes) in &set.blobs {
        push::blob(larder, NAME, digest, bytes, Api::PostOnly).await;
    }
    for manifest in &set.manifests {
        put(larder, NAME, &manifest.digest, manifest).await;
    }
}

/// An image, and so many artifacts attached to it, of two types in turns.
fn image_with(algorithm: Algorithm, artifacts: usize) -> DataSet {
    let mut set = DataSet::new(algorithm);
    let subject = set.image(&json!({}));
    for number in 0..artifacts {
        let artifact_type = [ARTIFACT, OTHER_ARTIFACT][number % 2];
        set.artifact(artifact_type, &attached(&subject, number));
    }
    set
}

#[tokio::test]
async fn what_nothing_is_attached_to_has_an_empty_list_even_in_a_repository_that_is_not_there() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        let subject = algorithm.digest(b"never pushed");
        for artifact_type in [None, Some(ARTIFACT)] {
            let listed = referrers(&larder, "nobody/knows", &subject, artifact_type).await;
            assert_eq!(listed, [] as [Value; 0]);
        }
    }
    // Nothing was made by asking.
    let tags = get(&larder, "/v2/nobody/knows/tags/list").await;
    assert_refused(&tags, 404, "NAME_UNKNOWN");
    larder.finish().await;
}

#[tokio::test]
async fn a_subject_that_is_no_digest_is_refused() {
    let larder = Options::registry().start().await;
    for subject in ["sha256:baddigeststring", "sha256:", "md5:0123", "latest"] {
        let refused = get(&larder, &format!("/v2/{NAME}/referrers/{subject}")).await;
        assert_refused(&refused, 400, "DIGEST_INVALID");
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_type_with_signs_in_it_is_found() {
    let larder = Options::registry().start().await;
    let mut set = DataSet::new(Algorithm::Sha256);
    let subject = set.image(&json!({}));
    let artifact_type = "application/vnd.example+type; version=\"1 & 2\"";
    set.artifact(artifact_type, &attached(&subject, 0));
    push_all(&larder, &set).await;
    let subject = text(&subject["digest"]);
    let listed = referrers(&larder, NAME, &subject, Some(artifact_type)).await;
    assert_eq!(listed, [set.manifests[1].entry.clone()]);
    larder.finish().await;
}

#[tokio::test]
async fn what_is_attached_may_itself_have_something_attached() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        let mut set = DataSet::new(algorithm);
        let mut subject = set.image(&json!({}));
        for number in 0..5 {
            subject = set.artifact(ARTIFACT, &attached(&subject, number));
        }
        push_all(&larder, &set).await;
        for pair in set.manifests.windows(2) {
            let listed = referrers(&larder, NAME, &pair[0].digest, None).await;
            assert_eq!(listed, [pair[1].entry.clone()]);
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_list_is_of_one_repository_and_follows_deletes_and_pushes() {
    let larder = Options::registry().start().await;
    let set = image_with(Algorithm::Sha256, 1);
    push_all(&larder, &set).await;
    let (subject, artifact) = (&set.manifests[0].digest, &set.manifests[1]);
    assert_eq!(
        referrers(&larder, "another/one", subject, None).await.len(),
        0
    );
    for _ in 0..2 {
        let listed = referrers(&larder, NAME, subject, None).await;
        assert_eq!(listed, slice::from_ref(&artifact.entry));
        assert_deleted(
            &larder,
            &format!("/v2/{NAME}/manifests/{}", artifact.digest),
        )
        .await;
        assert_eq!(referrers(&larder, NAME, subject, None).await.len(), 0);
        put(&larder, NAME, "again", artifact).await;
    }
    // Without its subject it is still attached to it.
    assert_deleted(&larder, &format!("/v2/{NAME}/manifests/{subject}")).await;
    let listed = referrers(&larder, NAME, subject, None).await;
    assert_eq!(listed, slice::from_ref(&artifact.entry));
    larder.finish().await;
}

#[tokio::test]
async fn pages_together_are_the_list() {
    let larder = Options::registry().start().await;
    let set = image_with(Algorithm::Sha256, 7);
    push_all(&larder, &set).await;
    let path = format!("/v2/{NAME}/referrers/{}", set.manifests[0].digest);
    for (query, count) in [
        ("?n=2".to_owned(), 7),
        ("?n=1".to_owned(), 7),
        (format!("?n=2&artifactType={ARTIFACT}"), 4),
    ] {
        let first = get(&larder, &format!("{path}{query}")).await;
        let next = next_page(&first).expect("a second page");
        let applied = get(&larder, &next).await;
        let filtered = query.contains("artifactType");
        let filters = if filtered { "artifactType" } else { "" };
        assert_eq!(applied.header("oci-filters-applied"), filters, "{next}");
        let (listed, _) = all_pages(&larder, &format!("{path}{query}"), "manifests").await;
        let digests: HashSet<_> = listed.iter().map(|entry| &entry["digest"]).collect();
        assert_eq!((listed.len(), digests.len()), (count, count), "{query}");
        assert!(!filtered || listed.iter().all(|entry| entry["artifactType"] == ARTIFACT));
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_list_too_large_for_one_manifest_comes_in_pages() {
    let larder = Options::registry().start().await;
    let mut set = DataSet::new(Algorithm::Sha256);
    let subject = set.image(&json!({}));
    for number in 0..4 {
        let mut more = attached(&subject, number);
        more["annotations"]["much"] = json!("A".repeat(1_500_000));
        set.artifact(ARTIFACT, &more);
    }
    push_all(&larder, &set).await;
    let path = format!("/v2/{NAME}/referrers/{}", text(&subject["digest"]));
    let first = get(&larder, &path).await;
    assert!(first.body.len() <= 4 * 1024 * 1024, "{}", first.body.len());
    let (mut listed, pages) = all_pages(&larder, &path, "manifests").await;
    assert!(pages > 1, "one page of {} entries", listed.len());
    listed.sort_by_key(|entry| text(&entry["digest"]));
    let mut entries: Vec<Value> = set.manifests[1..]
        .iter()
        .map(|it| it.entry.clone())
        .collect();
    entries.sort_by_key(|entry| text(&entry["digest"]));
    assert!(
        listed == entries,
        "{} of {} entries",
        listed.len(),
        entries.len()
    );
    larder.finish().await;
}

#[tokio::test]
async fn what_clients_listed_under_the_referrers_tag_is_listed() {
    let larder = Options::registry().start().await;
    for algorithm in Algorithm::BOTH {
        // What a registry without referrers holds: one artifact that names its subject, one that
        // does not, and an index of both by which clients find them. Of the first, it knows less
        // than the manifest says.
        let mut set = image_with(algorithm, 1);
        let subject = set.manifests[0].digest.clone();
        let mut old = set.artifact(OTHER_ARTIFACT, &json!({}));
        old["artifactType"] = json!(OTHER_ARTIFACT);
        old["annotations"] = json!({"org.example.from": "the tag"});
        let mut known = set.manifests[1].entry.clone();
        known
            .as_object_mut()
            .expect("an object")
            .remove("annotations");
        push_all(&larder, &set).await;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [known, old],
        });
        let (name, hex) = subject.split_once(':').expect("a digest");
        let tag = format!("{name}-{}", &hex[..64]);
        let pushed = larder
            .put_manifest(NAME, &tag, OCI_INDEX, index.to_string())
            .await;
        assert_eq!(pushed.status, 201, "{pushed:?}");

        let mut both = vec![set.manifests[1].entry.clone(), old.clone()];
        both.sort_by_key(|entry| text(&entry["digest"]));
        assert_eq!(referrers(&larder, NAME, &subject, None).await, both);
        for (wanted, entry) in [(ARTIFACT, &set.manifests[1].entry), (OTHER_ARTIFACT, &old)] {
            let listed = referrers(&larder, NAME, &subject, Some(wanted)).await;
            assert_eq!(listed, slice::from_ref(entry));
        }
        // The tag goes on naming what is deleted; the list does not.
        let path = format!("/v2/{NAME}/manifests/{}", text(&old["digest"]));
        assert_deleted(&larder, &path).await;
        let listed = referrers(&larder, NAME, &subject, None).await;
        assert_eq!(listed, [set.manifests[1].entry.clone()]);
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_referrers_tag_that_holds_something_else_harms_nothing() {
    let larder = Options::registry().start().await;
    let set = image_with(Algorithm::Sha256, 1);
    push_all(&larder, &set).await;
    let (image, artifact) = (&set.manifests[0], &set.manifests[1]);
    let tag = image.digest.replace(':', "-");
    put(&larder, NAME, &tag, image).await;
    let listed = referrers(&larder, NAME, &image.digest, None).await;
    assert_eq!(listed, slice::from_ref(&artifact.entry));
    larder.finish().await;
}

#[tokio::test]
async fn a_subject_that_is_malformed_is_no_subject() {
    let larder = Options::registry().start().await;
    let mut set = DataSet::new(Algorithm::Sha256);
    let empty = set.blob("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    push_all(&larder, &set).await;
    for subject in [
        json!({"digest": "sha256:baddigeststring"}),
        json!({"mediaType": OCI_MANIFEST}),
        json!("sha256"),
        json!(7),
        json!([]),
    ] {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": empty,
            "layers": [],
            "subject": subject,
        });
        let answer = larder
            .put_manifest(NAME, "odd", OCI_MANIFEST, manifest.to_string())
            .await;
        // Refused, or stored without a word about a subject; nothing in between.
        if answer.status == 201 {
            assert_eq!(answer.header("oci-subject"), "", "{subject}");
        } else {
            let code = answer.code();
            assert_eq!(answer.status, 400, "{answer:?}");
            assert!(
                ["MANIFEST_INVALID", "DIGEST_INVALID"].contains(&code.as_str()),
                "{code}"
            );
        }
    }
    larder.finish().await;
}

#[tokio::test]
async fn referrers_are_known_after_a_restart() {
    let mut larder = Options::registry().start().await;
    for set in [data::artifacts_with_subject, data::index_with_subject] {
        push_all(&larder, &set(Algorithm::Sha512)).await;
    }
    let subject = data::artifacts_with_subject(Algorithm::Sha512).manifests[0]
        .digest
        .clone();
    let before = referrers(&larder, NAME, &subject, None).await;
    assert_eq!(before.len(), 3);
    larder.kill().await;
    larder.start_again().await;
    assert_eq!(referrers(&larder, NAME, &subject, None).await, before);
    larder.finish().await;
}
