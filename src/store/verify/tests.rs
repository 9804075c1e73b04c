#![expect(
    clippy::disallowed_methods,
    reason = "tests make and break files as they like"
)]

use super::*;

use crate::store::publish;

use std::fs::{self, File};

use crate::oci::{MediaType, RepositoryName, Tag};
use crate::store::Repository;

const CHECKING: Checking = Checking {
    repair: true,
    sparse: true,
};

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    (root, store)
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

/// An image of one config, tagged `1`.
fn put(repository: &Repository, config: &[u8]) -> (Digest, Digest) {
    let blob = Digest::of(config);
    let mut staged = repository.store.stage_fill(&blob).unwrap();
    staged.append(config).unwrap();
    repository.commit_blob(&staged, &blob).unwrap();
    let manifest = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{blob}"}},"layers":[]}}"#);
    let digest = Digest::of(manifest.as_bytes());
    let media_type: MediaType = "application/vnd.oci.image.manifest.v1+json"
        .parse()
        .unwrap();
    repository
        .put_manifest(&digest, &media_type, manifest.as_bytes())
        .unwrap();
    let tag: Tag = "1".parse().unwrap();
    repository.put_tag(&tag, &digest).unwrap();
    (digest, blob)
}

/// Writes other bytes in place, and makes the file as old as if that had happened long ago.
fn damage(store: &Store, digest: &Digest) {
    let path = store.layout().blob_data(digest);
    fs::write(&path, b"other").unwrap();
    let old = SystemTime::now() - Duration::from_hours(1);
    File::open(&path).unwrap().set_modified(old).unwrap();
}

fn check(store: &Store) -> Vec<(Standing, Wrong, Option<Done>)> {
    let checked = store.check(CHECKING, &mut |_| ()).unwrap();
    let told = |it: Finding| (it.standing(), it.wrong, it.done);
    checked.findings.into_iter().map(told).collect()
}

#[test]
fn what_a_mirror_and_a_local_repository_link_is_local() {
    let (_root, store) = store();
    let (local, mirror) = (store.local(&name("a")), store.mirror(&name("docker.io/a")));
    let (_, blob) = put(&local, b"config");
    put(&mirror, b"config");
    damage(&store, &blob);
    let found = check(&store);
    assert!(
        matches!(
            &found[..],
            [
                (
                    Standing::Local,
                    Wrong::Data(Fault::Damaged),
                    Some(Done::PutAside(_))
                ),
                (Standing::Local, Wrong::Lacks(_), None),
            ] | [
                (Standing::Local, Wrong::Lacks(_), None),
                (
                    Standing::Local,
                    Wrong::Data(Fault::Damaged),
                    Some(Done::PutAside(_))
                ),
            ]
        ),
        "{found:?}"
    );
    // The mirror will fetch it again; the local repository waits for it.
    let link = |name: &RepositoryName| store.layout().layer_link(name, &blob).exists();
    assert!(link(local.name()) && !link(mirror.name()));
    put(&mirror, b"config");
    assert_eq!(check(&store), []);
}

#[test]
fn what_somebody_has_begun_to_rely_on_is_left_alone() {
    let (_root, store) = store();
    let mirror = store.mirror(&name("docker.io/a"));
    let (_, blob) = put(&mirror, b"config");
    // Before its data is read, and after that.
    let moments: [fn(Progress<'_>) -> bool; 2] = [
        |progress| matches!(progress, Progress::Listed { .. }),
        |progress| matches!(progress, Progress::Manifests(_)),
    ];
    for is_moment in moments {
        damage(&store, &blob);
        let checked = store.check(CHECKING, &mut |progress| {
            if is_moment(progress) {
                publish::touch(&store.layout().blob_data(&blob)).unwrap();
            }
        });
        let findings = checked.unwrap().findings;
        let done: Vec<_> = findings.iter().map(|it| it.done.clone()).collect();
        assert_eq!(done, [Some(Done::Changed)]);
        assert!(store.layout().blob_data(&blob).exists());
    }
    damage(&store, &blob);
    let found = check(&store);
    assert_eq!(found[0].2, Some(Done::Dropped), "{found:?}");
}
