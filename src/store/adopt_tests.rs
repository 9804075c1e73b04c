#![expect(
    clippy::disallowed_methods,
    reason = "tests make and break files as they like"
)]

use super::*;

use std::fs::{self, File};

use serde_json::json;

use crate::store::{Repository, StoreError};

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn cache() -> OldCache {
    OldCache {
        upstream: name("docker.io"),
        is_docker_hub: true,
        mirrors: vec![name("docker.io"), name("ghcr.io")],
    }
}

/// A tree of Distribution's with these repositories, each with one tagged manifest.
fn tree(names: &[&str]) -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    for name_of in names {
        put(&store.local(&name(name_of)), name_of).unwrap();
    }
    (root, store)
}

fn manifest(content: &str) -> (Digest, String) {
    let text = format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"a":"{content}"}}}}"#);
    (Digest::of(text.as_bytes()), text)
}

fn put(repository: &Repository, content: &str) -> Result<(), StoreError> {
    let (digest, text) = manifest(content);
    let index = "application/vnd.oci.image.index.v1+json".parse().unwrap();
    repository.put_manifest(&digest, &index, text.as_bytes())?;
    repository.put_tag(&"1".parse().unwrap(), &digest)
}

/// The list as Distribution writes it.
fn list(store: &Store, names: &[&str]) {
    let entry = |name: &&str| {
        let key = format!("{name}@{}", manifest(name).0);
        let entry = json!({"Key": key, "ExpiryData": "2026-01-01T00:00:00Z", "EntryType": 1});
        (key, entry)
    };
    let entries: serde_json::Map<_, _> = names.iter().map(entry).collect();
    let text = json!(entries).to_string();
    fs::write(Layout::scheduler_state(&store.inner.root), text).unwrap();
}

fn kinds<const N: usize>(store: &Store, names: [&str; N]) -> [Option<Kind>; N] {
    names.map(|it| store.kind_of(&name(it)))
}

#[test]
fn what_the_list_vouches_for_becomes_a_mirror_and_nothing_else() {
    let names = ["library/a", "b", "team/c", "team/c/d", "ghcr.io/e"];
    let (_root, store) = tree(&names);
    list(&store, &["library/a", "b", "team/c"]);
    let adopted = store.adopt(&cache()).unwrap().unwrap();
    let taken = [
        "docker.io/library/a",
        "docker.io/library/b",
        "docker.io/team/c",
    ];
    let mut found = adopted.taken.clone();
    found.sort();
    assert_eq!(found, taken.map(name));
    let doubt = (
        name("team/c/d"),
        name("docker.io/team/c/d"),
        Doubt::Unlisted,
    );
    assert_eq!(adopted.doubtful, [doubt]);
    assert_eq!(kinds(&store, taken), [Some(Kind::Mirror); 3]);
    assert_eq!(kinds(&store, ["library/a", "b", "team/c"]), [None; 3]);
    assert_eq!(
        kinds(&store, ["team/c/d", "ghcr.io/e"]),
        [Some(Kind::Local); 2]
    );
    let tag = store.mirror(&name(taken[0])).tag(&"1".parse().unwrap());
    assert_eq!(tag.unwrap(), Some(manifest("library/a").0));
    // Once is enough: what is pushed from now on is its pusher's.
    put(&store.local(&name("b")), "b").unwrap();
    assert_eq!(store.adopt(&cache()).unwrap(), None);
    assert_eq!(kinds(&store, ["b"]), [Some(Kind::Local)]);
}

#[test]
fn doubt_counts_as_local() {
    let names = [
        "library/old",
        "library/new",
        "team/mixed",
        "team/push",
        "team/there",
        "team/blob",
    ];
    let (_root, store) = tree(&names);
    list(&store, &names[..5]);
    let long_ago = SystemTime::now() - Duration::from_hours(1);
    let path = Layout::scheduler_state(&store.inner.root);
    let written = |time| File::open(&path).unwrap().set_modified(time).unwrap();
    // Expired from the list, in a repository where nobody can push, and in two where anybody can.
    put(&store.local(&name("library/old")), "expired").unwrap();
    put(&store.local(&name("team/mixed")), "expired or pushed").unwrap();
    let digest = manifest("expired").0;
    let link = store.layout().revision_link(&name("library/old"), &digest);
    File::open(link).unwrap().set_modified(long_ago).unwrap();
    // After the list was written.
    written(long_ago);
    put(&store.local(&name("library/new")), "pushed since").unwrap();
    let upload = store.layout().uploads(&name("team/push")).join("some-id");
    fs::create_dir_all(upload).unwrap();
    put(&store.mirror(&name("docker.io/team/there")), "x").unwrap();
    let adopted = store.adopt(&cache()).unwrap().unwrap();
    assert_eq!(adopted.taken, [name("docker.io/library/old")]);
    assert_eq!(adopted.doubtful.len(), 5);
    assert_eq!(
        kinds(
            &store,
            [
                "library/new",
                "team/mixed",
                "team/push",
                "team/there",
                "team/blob"
            ]
        ),
        [Some(Kind::Local); 5]
    );
    let why = |of: &str| {
        let found = adopted.doubtful.iter().find(|(it, ..)| it.as_str() == of);
        found.unwrap().2.to_string()
    };
    assert!(why("library/new").contains("a manifest"));
    assert!(why("team/mixed").contains("a manifest"));
    assert!(why("team/push").contains("upload"));
    assert!(why("team/there").contains("already"));
    assert!(why("team/blob").contains("does not have it"));
}

/// Every state that a kill can leave.
#[test]
fn what_was_begun_is_finished() {
    type Step = fn(&Store, &RepositoryName, &RepositoryName);
    let steps: [Step; 5] = [
        |store, from, _| publish::make_dirs(&store.layout().mirror_marker(from)).unwrap(),
        |store, _, to| publish::make_dirs(&store.layout().mirror_marker(to)).unwrap(),
        |store, from, to| {
            let (from, to) = (store.layout().layers(from), store.layout().layers(to));
            publish::move_directory(&from, &to).unwrap();
        },
        |store, from, to| {
            let (from, to) = (store.layout().manifests(from), store.layout().manifests(to));
            publish::move_directory(&from, &to).unwrap();
        },
        |store, from, _| {
            store.clear(from).unwrap();
        },
    ];
    let names = ["library/a", "library/b", "team/pushed"];
    let halfway = (0..=steps.len()).flat_map(|it| [(it, it), (it, 0)]);
    for (first, second) in halfway {
        let (_root, store) = tree(&names);
        let layer = Digest::of(b"layer");
        for of in &names {
            let held = store.holds().shared().unwrap();
            store.put_data(&layer, b"layer", &held).unwrap();
            drop(held);
            assert!(store.local(&name(of)).link_blob(&layer).unwrap());
        }
        list(&store, &names[..2]);
        for (of, reached) in [("library/a", first), ("library/b", second)] {
            let (from, to) = (name(of), cache().new_name(&name(of)));
            steps[..reached]
                .iter()
                .for_each(|step| step(&store, &from, &to));
        }
        store.adopt(&cache()).unwrap().unwrap();
        assert_eq!(
            kinds(&store, ["library/a", "library/b"]),
            [None; 2],
            "{first} {second}"
        );
        for of in &names[..2] {
            let to = cache().new_name(&name(of));
            assert_eq!(store.kind_of(&to), Some(Kind::Mirror), "{first} {second}");
            let mirror = store.mirror(&to);
            assert!(mirror.blob(&layer).unwrap().is_some());
            assert!(mirror.manifest(&manifest(of).0).unwrap().is_some());
            assert!(!store.layout().repository(&name(of)).exists());
        }
        let pushed = store.local(&name("team/pushed"));
        assert!(pushed.blob(&layer).unwrap().is_some());
        assert!(!Layout::scheduler_state(&store.inner.root).exists());
    }
}

#[test]
fn a_list_that_cannot_be_read_vouches_for_nothing() {
    for text in [
        "",
        "{",
        "[]",
        r#"{"library/a": 1}"#,
        r#"{"library/a@sha256:x": {}}"#,
    ] {
        let (_root, store) = tree(&["library/a"]);
        fs::write(Layout::scheduler_state(&store.inner.root), text).unwrap();
        let adopted = store.adopt(&cache()).unwrap().unwrap();
        assert!(adopted.taken.is_empty(), "{text}");
        assert_eq!(kinds(&store, ["library/a"]), [Some(Kind::Local)]);
    }
}
