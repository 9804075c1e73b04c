#![expect(clippy::disallowed_methods, reason = "others write in the tree too")]
use super::*;
use std::fs;

use crate::oci::media;

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;
const OTHER: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[ ]}"#;

struct Tree {
    root: tempfile::TempDir,
    store: Store,
    local: Repository,
}

impl Tree {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let local = store.local(&"team/app".parse().unwrap());
        Self { root, store, local }
    }

    fn push(&self, bytes: &[u8], tag: &Tag) -> Digest {
        let digest = Digest::of(bytes);
        let media_type = crate::oci::MediaType::known(media::OCI_MANIFEST);
        self.local
            .put_manifest(&digest, &media_type, bytes)
            .unwrap();
        self.local.put_tag(tag, &digest).unwrap();
        digest
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let mut staged = self.store.stage_fill(&digest).unwrap();
        staged.append(bytes).unwrap();
        self.local.commit_blob(&staged, &digest).unwrap();
        digest
    }

    fn settle_tag(&self, tag: &Tag) -> TagState {
        let recall = || self.local.recalled_tag(tag, Moment::now());
        settle(recall, || drop(self.local.keep_tag(tag).unwrap()))
    }

    fn settle_manifest(&self, digest: &Digest) -> Arc<StoredManifest> {
        let recall = || self.local.recalled_manifest(digest, Moment::now());
        settle(recall, || drop(self.local.keep_manifest(digest).unwrap()))
    }

    fn settle_blob(&self, digest: &Digest) -> Blob {
        let recall = || self.local.recalled_blob(digest, Moment::now());
        settle(recall, || drop(self.local.keep_blob(digest).unwrap())).0
    }
}

/// Asks until it comes from memory.
fn settle<T>(recall: impl Fn() -> Option<T>, keep: impl Fn()) -> T {
    loop {
        if let Some(recalled) = recall() {
            return recalled;
        }
        keep();
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_tag_in_memory_is_what_its_link_says() {
    let tree = Tree::new();
    let tag: Tag = "1".parse().unwrap();
    let first = tree.push(MANIFEST, &tag);
    assert_eq!(tree.settle_tag(&tag).digest, first);
    let second = tree.push(OTHER, &tag);
    assert!(tree.local.recalled_tag(&tag, Moment::now()).is_none());
    assert_eq!(tree.settle_tag(&tag).digest, second);
    tree.local.delete_tag(&tag).unwrap();
    assert!(tree.local.recalled_tag(&tag, Moment::now()).is_none());
    assert!(tree.local.keep_tag(&tag).unwrap().is_none());
}

#[test]
fn a_manifest_in_memory_goes_with_its_link_its_type_and_its_data() {
    let tree = Tree::new();
    let tag = "1".parse().unwrap();
    let digest = tree.push(MANIFEST, &tag);
    let layout = tree.store.layout();
    let name = &tree.local.name;
    let link = layout.revision_link(name, &digest);
    let data = layout.blob_data(&digest);
    let served_as = layout.revision_media_type(name, &digest);
    let changes: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&link).unwrap(),
        &|| fs::remove_file(&data).unwrap(),
        &|| fs::write(&served_as, media::DOCKER_MANIFEST).unwrap(),
        &|| drop(tree.local.delete_manifest(&digest).unwrap()),
    ];
    for change in changes {
        tree.push(MANIFEST, &tag);
        assert_eq!(tree.settle_manifest(&digest).bytes, MANIFEST);
        change();
        assert!(
            tree.local
                .recalled_manifest(&digest, Moment::now())
                .is_none()
        );
        let read = tree.local.manifest(&digest).unwrap();
        let kept = tree.local.keep_manifest(&digest).unwrap();
        let media_type = |it: &StoredManifest| it.media_type.clone();
        assert_eq!(
            read.as_ref().map(media_type),
            kept.as_deref().map(media_type)
        );
    }
}

#[test]
fn an_open_blob_goes_with_its_link_and_with_its_data() {
    let tree = Tree::new();
    let layout = tree.store.layout();
    let digest = Digest::of(b"layer");
    let link = layout.layer_link(&tree.local.name, &digest);
    let data = layout.blob_data(&digest);
    let changes: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&link).unwrap(),
        &|| fs::remove_file(&data).unwrap(),
        &|| fs::write(&data, "other").unwrap(),
        &|| assert!(tree.local.delete_blob(&digest).unwrap()),
    ];
    for change in changes {
        tree.blob(b"layer");
        assert_eq!(tree.settle_blob(&digest).read_at(0, 9).unwrap(), b"layer");
        change();
        assert!(tree.local.recalled_blob(&digest, Moment::now()).is_none());
        // What was written into it is nothing to serve: the next round begins with the right bytes.
        let _ = fs::remove_file(&data);
    }
}

#[test]
fn an_open_blob_that_is_removed_gives_its_room_back() {
    let tree = Tree::new();
    let digest = tree.blob(b"layer");
    drop(tree.settle_blob(&digest));
    assert_eq!(tree.store.recall().files.len(), 1);
    tree.store.let_go();
    assert_eq!(tree.store.recall().files.len(), 1);
    fs::remove_file(tree.store.layout().blob_data(&digest)).unwrap();
    tree.store.let_go();
    assert_eq!(tree.store.recall().files.len(), 0);
}

#[test]
fn no_more_blobs_are_kept_open_than_there_is_room_for() {
    let tree = Tree::new();
    let layout = tree.store.layout();
    for number in 0..700_u32 {
        let bytes = number.to_le_bytes();
        let digest = Digest::of(&bytes);
        let link = layout.layer_link(&tree.local.name, &digest);
        for (path, bytes) in [
            (layout.blob_data(&digest), &bytes[..]),
            (link, digest.as_str().as_bytes()),
        ] {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        assert!(tree.local.keep_blob(&digest).unwrap().is_some());
    }
    let open = tree.store.recall().files.len();
    assert!((100..=512).contains(&open), "{open}");
}

#[test]
fn what_is_kept_of_manifests_is_bounded_by_their_bytes() {
    let tree = Tree::new();
    let filler = "x".repeat(1 << 20);
    let tag = "1".parse().unwrap();
    for number in 0..40 {
        let bytes =
            format!(r#"{{"schemaVersion":2,"config":{{}},"layers":[],"x":"{filler}{number}"}}"#);
        let digest = tree.push(bytes.as_bytes(), &tag);
        tree.local.keep_manifest(&digest).unwrap();
    }
    let manifests = &tree.store.recall().manifests;
    manifests.run_pending_tasks();
    assert!(manifests.weighted_size() <= MANIFESTS);
    assert!(manifests.entry_count() > 0);
}

#[test]
fn the_kind_of_a_name_is_what_its_directory_says() {
    let tree = Tree::new();
    let name = tree.local.name.clone();
    let kind = || tree.store.kind_since(&name, Moment::now());
    assert_eq!(kind(), None);
    tree.blob(b"layer");
    for _ in 0..10 {
        assert_eq!(kind(), Some(Kind::Local));
        std::thread::sleep(Duration::from_millis(20));
    }
    let directory = tree.store.layout().repository(&name);
    fs::create_dir(directory.join("_mirror")).unwrap();
    assert_eq!(kind(), Some(Kind::Mirror));
    fs::rename(
        tree.root.path().join("docker"),
        tree.root.path().join("away"),
    )
    .unwrap();
    assert_eq!(kind(), None);
}

#[test]
fn a_store_that_keeps_blobs_open_can_be_closed_and_opened_again() {
    let tree = Tree::new();
    let digest = tree.blob(b"layer");
    drop(tree.settle_blob(&digest));
    let Tree { root, store, local } = tree;
    drop((store, local));
    assert!(Store::open(root.path()).unwrap().is_alone());
}
