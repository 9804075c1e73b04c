//! Each set of data is pushed, listed, pulled, asked for its referrers, and deleted.

use serde_json::Value;

use super::data::{self, DataSet, Manifest};
use super::push::{self, Api};
use super::wire::{self, ask, assert_blob, assert_deleted, get, head};
use super::{Algorithm, OCI_INDEX, OCI_MANIFEST};
use crate::support::programs::{Answer, Larder, Options};

/// How a set's manifests get their tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tagging {
    /// By PUTs to the tags. The registry names what is pushed so by its sha256.
    ByTag,
    /// As parameters of the PUTs by digest.
    ByParameter,
}

/// Takes a set through everything, under both algorithms.
async fn journey(set: fn(Algorithm) -> DataSet) {
    let larder = Options::registry().start().await;
    for (name, algorithm, tagging) in [
        ("conformance/by-tag", Algorithm::Sha256, Tagging::ByTag),
        (
            "conformance/by-parameter",
            Algorithm::Sha256,
            Tagging::ByParameter,
        ),
        (
            "conformance/sha512",
            Algorithm::Sha512,
            Tagging::ByParameter,
        ),
    ] {
        let set = set(algorithm);
        push_all(&larder, name, &set, tagging).await;
        assert_listed(&larder, name, &set).await;
        assert_pullable(&larder, name, &set).await;
        assert_referrers(&larder, name, &set).await;
        delete_all(&larder, name, &set).await;
    }
    larder.finish().await;
}

async fn push_all(larder: &Larder, name: &str, set: &DataSet, tagging: Tagging) {
    let ways = Api::ROTATION.into_iter().cycle();
    for ((digest, bytes), api) in set.blobs.iter().zip(ways) {
        push::blob(larder, name, digest, bytes, api).await;
    }
    for manifest in &set.manifests {
        let digest = manifest.digest.as_str();
        let tags = set.tags.iter().filter(|(_, tagged)| tagged == digest);
        let tags: Vec<&str> = tags.map(|(tag, _)| tag.as_str()).collect();
        if tagging == Tagging::ByTag {
            put(larder, name, digest, manifest).await;
            for tag in tags {
                put(larder, name, tag, manifest).await;
            }
        } else {
            let parameters: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
            let reference = format!("{digest}?{}", parameters.join("&"));
            let stored = put(larder, name, &reference, manifest).await;
            assert_eq!(tagged(&stored), tags, "{stored:?}");
        }
    }
}

/// PUT of a manifest, which must be taken, and be where the answer says.
pub(super) async fn put(
    larder: &Larder,
    name: &str,
    reference: &str,
    manifest: &Manifest,
) -> Answer {
    let path = format!("/v2/{name}/manifests/{reference}");
    let request = larder.request("PUT", &path);
    let request = request.header("content-type", manifest.media_type);
    let stored = ask(larder, request.body(manifest.bytes.clone())).await;
    assert_eq!(stored.status, 201, "{path}: {stored:?}");
    assert_eq!(stored.header("docker-content-digest"), manifest.digest);
    let subject = manifest.subject.as_deref().unwrap_or_default();
    assert_eq!(stored.header("oci-subject"), subject);
    let got = wire::manifest(larder, "GET", stored.header("location")).await;
    assert_is(&got, manifest);
    stored
}

/// The tags that an answer says it has set: on lines of their own, or separated by commas.
pub(super) fn tagged(answer: &Answer) -> Vec<&str> {
    let lines = answer.headers.get_all("oci-tag").iter();
    let lines = lines.map(|line| line.to_str().expect("a line of tags"));
    lines
        .flat_map(|line| line.split(',').map(str::trim))
        .collect()
}

/// An answer to GET that is this manifest, byte for byte.
#[track_caller]
fn assert_is(got: &Answer, manifest: &Manifest) {
    assert_eq!(got.status, 200, "{got:?}");
    assert_described(got, manifest);
    assert!(
        got.body == manifest.bytes,
        "{} has other bytes",
        manifest.digest
    );
}

#[track_caller]
fn assert_described(answer: &Answer, manifest: &Manifest) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), manifest.media_type);
    assert_eq!(
        answer.header("content-length"),
        manifest.bytes.len().to_string()
    );
    assert_eq!(answer.header("docker-content-digest"), manifest.digest);
}

/// "Listing Tags": all of them, those after one, and page by page; in byte order.
async fn assert_listed(larder: &Larder, name: &str, set: &DataSet) {
    let mut tags: Vec<&str> = set.tags.iter().map(|(tag, _)| tag.as_str()).collect();
    tags.sort_unstable();
    let path = format!("/v2/{name}/tags/list");
    let all = get(larder, &path).await;
    assert_eq!((all.status, &all.json()["name"]), (200, &Value::from(name)));
    assert_eq!(all.json()["tags"], Value::from(tags.clone()));
    for (at, last) in tags.iter().enumerate() {
        let after = get(larder, &format!("{path}?last={last}")).await;
        assert_eq!(after.json()["tags"], Value::from(&tags[at + 1..]), "{last}");
    }
    let (listed, _) = wire::all_pages(larder, &format!("{path}?n=1"), "tags").await;
    assert_eq!(listed, tags);
}

/// "Pulling manifests", by tag and by digest, and "Pulling blobs".
async fn assert_pullable(larder: &Larder, name: &str, set: &DataSet) {
    for manifest in &set.manifests {
        let tags = set
            .tags
            .iter()
            .filter(|(_, digest)| *digest == manifest.digest);
        let tags = tags.map(|(tag, _)| tag);
        for reference in tags.chain([&manifest.digest]) {
            let path = format!("/v2/{name}/manifests/{reference}");
            let headed = wire::manifest(larder, "HEAD", &path).await;
            assert_described(&headed, manifest);
            assert_eq!(headed.body, b"");
            assert_is(&wire::manifest(larder, "GET", &path).await, manifest);
        }
    }
    for (digest, bytes) in &set.blobs {
        assert_blob(larder, name, digest, bytes).await;
    }
}

/// The referrers of a subject, in the order of their digests; of one artifact type if one is given.
pub(super) async fn referrers(
    larder: &Larder,
    name: &str,
    subject: &str,
    artifact_type: Option<&str>,
) -> Vec<Value> {
    let mut path = format!("/v2/{name}/referrers/{subject}");
    if let Some(artifact_type) = artifact_type {
        path.push_str("?artifactType=");
        path.extend(url::form_urlencoded::byte_serialize(
            artifact_type.as_bytes(),
        ));
    }
    let listed = get(larder, &path).await;
    assert_eq!(listed.status, 200, "{listed:?}");
    assert_eq!(listed.header("content-type"), OCI_INDEX);
    let filters = if artifact_type.is_some() {
        "artifactType"
    } else {
        ""
    };
    assert_eq!(listed.header("oci-filters-applied"), filters);
    let index = listed.json();
    assert_eq!(
        (&index["schemaVersion"], &index["mediaType"]),
        (&2.into(), &OCI_INDEX.into())
    );
    let mut entries = index["manifests"].as_array().expect("a list").clone();
    entries.sort_by_key(|entry| data::text(&entry["digest"]));
    entries
}

/// What a set's manifests say about a subject, in the order of their digests.
fn entries_of(manifests: &[Manifest], subject: &str) -> Vec<Value> {
    let attached = |manifest: &&Manifest| manifest.subject.as_deref() == Some(subject);
    let mut attached: Vec<&Manifest> = manifests.iter().filter(attached).collect();
    attached.sort_by_key(|manifest| &manifest.digest);
    attached
        .into_iter()
        .map(|manifest| manifest.entry.clone())
        .collect()
}

/// "Listing Referrers": of every manifest and every subject, and with every filter that there is.
async fn assert_referrers(larder: &Larder, name: &str, set: &DataSet) {
    let subjects = set.manifests.iter().filter_map(|it| it.subject.as_ref());
    for subject in set.manifests.iter().map(|it| &it.digest).chain(subjects) {
        let expected = entries_of(&set.manifests, subject);
        assert_eq!(referrers(larder, name, subject, None).await, expected);
        for wanted in [data::ARTIFACT, data::OTHER_ARTIFACT, OCI_MANIFEST] {
            let fits = |entry: &&Value| entry["artifactType"] == wanted;
            let expected: Vec<Value> = expected.iter().filter(fits).cloned().collect();
            let listed = referrers(larder, name, subject, Some(wanted)).await;
            assert_eq!(listed, expected, "{wanted}");
        }
    }
}

/// "Content Management": tags, manifests from the last on, and blobs, each gone at once.
async fn delete_all(larder: &Larder, name: &str, set: &DataSet) {
    for (tag, digest) in &set.tags {
        assert_deleted(larder, &format!("/v2/{name}/manifests/{tag}")).await;
        let left = head(larder, &format!("/v2/{name}/manifests/{digest}")).await;
        assert_eq!(left.status, 200, "a manifest goes with its tag");
    }
    let tags = get(larder, &format!("/v2/{name}/tags/list")).await;
    assert_eq!(
        (tags.status, &tags.json()["tags"]),
        (200, &Value::Array(Vec::new()))
    );
    for (left, manifest) in set.manifests.iter().enumerate().rev() {
        let path = format!("/v2/{name}/manifests/{}", manifest.digest);
        assert_deleted(larder, &path).await;
        if let Some(subject) = &manifest.subject {
            let expected = entries_of(&set.manifests[..left], subject);
            assert_eq!(referrers(larder, name, subject, None).await, expected);
        }
    }
    for (digest, _) in &set.blobs {
        assert_deleted(larder, &format!("/v2/{name}/blobs/{digest}")).await;
    }
}

#[tokio::test]
async fn an_image_makes_the_whole_journey() {
    journey(data::image).await;
}

#[tokio::test]
async fn an_image_of_uncompressed_layers_makes_the_whole_journey() {
    journey(data::uncompressed).await;
}

#[tokio::test]
async fn a_manifest_of_four_megabytes_makes_the_whole_journey() {
    journey(data::large_manifest).await;
}

#[tokio::test]
async fn an_index_makes_the_whole_journey() {
    journey(data::index).await;
}

#[tokio::test]
async fn an_index_without_tags_makes_the_whole_journey() {
    journey(data::untagged_index).await;
}

#[tokio::test]
async fn an_index_of_both_algorithms_makes_the_whole_journey() {
    journey(data::mixed_index).await;
}

#[tokio::test]
async fn an_index_of_indexes_makes_the_whole_journey() {
    journey(data::nested_index).await;
}

#[tokio::test]
async fn an_index_of_nothing_makes_the_whole_journey() {
    journey(data::empty_index).await;
}

#[tokio::test]
async fn an_artifact_makes_the_whole_journey() {
    journey(data::artifact).await;
}

#[tokio::test]
async fn an_index_of_artifacts_makes_the_whole_journey() {
    journey(data::artifact_index).await;
}

#[tokio::test]
async fn an_artifact_without_layers_makes_the_whole_journey() {
    journey(data::artifact_without_layers).await;
}

#[tokio::test]
async fn artifacts_attached_to_an_image_make_the_whole_journey() {
    journey(data::artifacts_with_subject).await;
}

#[tokio::test]
async fn indexes_attached_to_an_index_make_the_whole_journey() {
    journey(data::index_with_subject).await;
}

#[tokio::test]
async fn an_artifact_attached_to_what_is_not_there_makes_the_whole_journey() {
    journey(data::missing_subject).await;
}

#[tokio::test]
async fn descriptors_that_carry_their_content_make_the_whole_journey() {
    journey(data::data_field).await;
}

#[tokio::test]
async fn layers_that_are_to_be_fetched_elsewhere_need_not_be_pushed() {
    journey(data::foreign_layers).await;
}

#[tokio::test]
async fn fields_and_spaces_that_nobody_knows_are_kept() {
    journey(data::custom_fields).await;
}

#[tokio::test]
async fn an_image_without_layers_makes_the_whole_journey() {
    journey(data::no_layers).await;
}
