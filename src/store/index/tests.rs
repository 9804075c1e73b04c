use serde_json::json;

use super::*;
use crate::store::Repository;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &[u8] = br#"{"os":"linux","architecture":"arm64"}"#;

fn put_blob(repository: &Repository, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let mut staged = repository.store.stage_fill(&digest).unwrap();
    staged.append(bytes).unwrap();
    repository.commit_blob(&staged, &digest).unwrap();
    digest
}

/// An image of one layer, tagged; the layer's bytes are stored if they are to be.
fn put_image(repository: &Repository, tag: &str, layer: &[u8], stored: bool) -> Digest {
    let config = put_blob(repository, CONFIG);
    let manifest = json!({
        "mediaType": MANIFEST,
        "config": { "digest": config.as_str(), "size": CONFIG.len() },
        "layers": [{ "digest": Digest::of(layer).as_str(), "size": layer.len() }],
    });
    let bytes = manifest.to_string().into_bytes();
    let digest = Digest::of(&bytes);
    let media_type = MANIFEST.parse().unwrap();
    repository
        .put_manifest(&digest, &media_type, &bytes)
        .unwrap();
    repository.put_tag(&tag.parse().unwrap(), &digest).unwrap();
    if stored {
        put_blob(repository, layer);
    }
    digest
}

fn read(store: &Store) -> Index {
    Index::read(store, &|| false).unwrap().unwrap()
}

#[test]
fn what_is_caught_up_with_is_what_is_read_afresh() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let mirror = store.mirror(&"docker.io/library/x".parse().unwrap());
    let local = store.local(&"team/app".parse().unwrap());
    let one = put_image(&mirror, "1", b"first layer", true);
    let mut index = read(&store);
    assert!(store.take_changes().is_empty());
    let steps: [&dyn Fn(); 6] = [
        &|| drop(put_image(&mirror, "2", b"second", false)),
        &|| drop(put_image(&local, "a", b"first layer", true)),
        &|| drop(put_blob(&mirror, b"second")),
        &|| mirror.put_tag(&"2".parse().unwrap(), &one).unwrap(),
        &|| assert!(local.delete_blob(&Digest::of(b"first layer")).unwrap()),
        &|| assert!(local.delete_tag(&"a".parse().unwrap()).unwrap()),
    ];
    for (at, step) in steps.iter().enumerate() {
        step();
        let changes = store.take_changes();
        assert!(!changes.is_empty(), "{at}");
        index.catch_up(&changes);
        let fresh = read(&store);
        assert_eq!(index.occupied(), fresh.occupied(), "{at}");
        assert_eq!(
            index.stamps().repositories,
            fresh.stamps().repositories,
            "{at}"
        );
        for (name, known) in index.repositories() {
            let read = &fresh.repositories()[name];
            assert_eq!((&known.tags, known.bytes), (&read.tags, read.bytes), "{at}");
            for digest in known.tags.values() {
                let image = index.image(name, digest).unwrap();
                assert_eq!(Some(image), fresh.image(name, digest), "{at}");
            }
        }
    }
    let image = index.image(mirror.name(), &one).unwrap();
    assert_eq!(image.platforms, [("linux/arm64".to_owned(), true)]);
    assert_eq!(image.media_type.unwrap().as_str(), MANIFEST);
    assert_eq!(image.shared, 0, "both tags are one image");
}

#[test]
fn what_others_change_is_found_by_looking() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let local = store.local(&"team/app".parse().unwrap());
    put_image(&local, "a", b"layer", true);
    let mut index = read(&store);
    let look = |index: &Index| Index::changed_by_others(&store, &index.stamps()).unwrap();
    assert!(look(&index).is_empty());
    // Another process, which tells this one nothing.
    let other = Store::open_beside(root.path()).unwrap();
    let there = other.local(local.name());
    let moved = put_image(&there, "a", b"other", true);
    let beside = Stamps::beside_now(&store);
    let found = look(&index);
    assert_eq!(found.names().collect::<Vec<_>>(), [local.name()]);
    index.catch_up(&found);
    index.seen(&beside);
    assert_eq!(
        index.repositories()[local.name()].tags.values().next(),
        Some(&moved)
    );
    assert!(look(&index).is_empty());
    let layout = store.layout();
    #[expect(clippy::disallowed_methods, reason = "by hand")]
    std::fs::remove_dir_all(layout.tags(local.name()).join("a")).unwrap();
    index.catch_up(&look(&index));
    assert!(index.repositories()[local.name()].tags.is_empty());
    #[expect(clippy::disallowed_methods, reason = "by hand")]
    std::fs::remove_dir_all(layout.repository(local.name())).unwrap();
    index.catch_up(&look(&index));
    assert!(index.repositories().is_empty());
    assert_eq!(index.occupied(), Occupied::default());
}
