#![expect(
    clippy::disallowed_methods,
    reason = "tests make and break files as they like"
)]

use super::*;
use crate::oci::manifest::{Manifest, Need};
use crate::oci::{MediaType, Tag, media};
use crate::store::{Push, Repository, publish};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Barrier;
use std::time::Instant;

#[path = "property_tests.rs"]
mod property;

const HOUR: Duration = Duration::from_hours(1);

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    (root, store)
}

/// Everything in the tree was last touched two days ago.
fn age(path: &Path) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            age(&path);
        } else {
            set_age(&path, HOUR * 48);
        }
    }
}

fn set_age(path: &Path, age: Duration) {
    let file = File::open(path).unwrap();
    file.set_modified(SystemTime::now() - age).unwrap();
}

fn add_blob(repository: &Repository, content: &str) -> Digest {
    let digest = Digest::of(content.as_bytes());
    let mut staged = repository.store.stage_fill(&digest).unwrap();
    staged.restart().unwrap();
    staged.append(content.as_bytes()).unwrap();
    repository.commit_blob(&staged, &digest).unwrap();
    digest
}

fn json(kind: &str, named: &[Digest], subject: Option<&Digest>, note: &str) -> String {
    let descriptor = |digest: &Digest| format!(r#"{{"digest":"{digest}"}}"#);
    let listed: Vec<_> = named.iter().map(descriptor).collect();
    let subject = subject.map_or_else(|| "null".into(), descriptor);
    let config = match (kind, named.first()) {
        ("layers", Some(first)) => format!(r#""config":{},"#, descriptor(first)),
        _ => String::new(),
    };
    format!(
        r#"{{"schemaVersion":2,{config}"{kind}":[{}],"subject":{subject},"note":"{note}"}}"#,
        listed.join(",")
    )
}

/// Pushes an image or an index as a client does, and says what was missing.
fn push(repository: &Repository, json: &str, tags: &[&str]) -> Result<Digest, Vec<Digest>> {
    let is_index = json.contains("\"manifests\"");
    let media_type = MediaType::known(if is_index {
        media::OCI_INDEX
    } else {
        media::OCI_MANIFEST
    });
    let manifest = Manifest::pushed(json.as_bytes(), Some(&media_type)).unwrap();
    let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    let digest = Digest::of(json.as_bytes());
    let missing = repository.push_manifest(&Push {
        digest: &digest,
        media_type: &media_type,
        bytes: json.as_bytes(),
        needs: &manifest.needs,
        subject: manifest.subject.as_ref(),
        tags: &tags,
    });
    match missing.unwrap() {
        none if none.is_empty() => Ok(digest),
        mut missing => {
            // Its config is its first layer.
            missing.dedup();
            Err(missing)
        }
    }
}

fn image(repository: &Repository, content: &str, tags: &[&str]) -> (Digest, Digest) {
    let layer = add_blob(repository, content);
    let manifest = push(
        repository,
        &json("layers", std::slice::from_ref(&layer), None, ""),
        tags,
    );
    (manifest.unwrap(), layer)
}

/// Collects without grace; `meanwhile` happens at each step.
fn collect_while(
    store: &Store,
    untagged: bool,
    mut meanwhile: impl FnMut(Step<'_>),
) -> Result<Collected, CollectError> {
    let collection = Collection {
        untagged,
        grace: Duration::ZERO,
        dry_run: false,
    };
    store.collect(collection, &|| false, &mut |step| meanwhile(step))
}

fn assert_whole(repository: &Repository, manifest: &Digest) {
    let stored = repository.manifest(manifest).unwrap().expect("a manifest");
    for digest in crate::oci::References::of(&stored.bytes).unwrap().named {
        if repository.has_manifest(&digest).unwrap() {
            assert_whole(repository, &digest);
        } else {
            assert!(repository.blob(&digest).unwrap().is_some(), "{digest}");
        }
    }
}

#[test]
fn a_blob_that_is_mounted_meanwhile_stays() {
    let (root, store) = store();
    let (from, to) = (
        store.local(&"a".parse().unwrap()),
        store.local(&"b".parse().unwrap()),
    );
    let blob = add_blob(&from, "x");
    age(root.path());
    let collected = collect_while(&store, false, |step| {
        // Its only link is gone by now, and the data is about to go.
        if let Step::Found(found) = step {
            assert_eq!(found.blobs, 1);
            assert!(to.link_blob(&blob).unwrap());
        }
    });
    assert_eq!(collected.unwrap().blobs, 0);
    assert!(from.blob(&blob).unwrap().is_none());
    assert!(to.blob(&blob).unwrap().is_some());
}

#[test]
fn a_blob_that_is_asked_for_meanwhile_stays() {
    for asked in [false, true] {
        let (root, store) = store();
        let repository = store.local(&"a".parse().unwrap());
        let blob = add_blob(&repository, "x");
        age(root.path());
        let collected = collect_while(&store, false, |step| {
            if let (Step::Repository(_), true) = (step, asked) {
                assert!(repository.rely_on_blob(&blob).unwrap().is_some());
            }
        });
        let kept = repository.blob(&blob).unwrap().is_some();
        assert_eq!((kept, collected.unwrap().links == 0), (asked, asked));
    }
}

#[test]
fn a_blob_that_is_received_long_before_it_is_committed_is_new() {
    let (root, store) = store();
    let [first, second] = ["a", "b"].map(|name| store.local(&name.parse().unwrap()));
    for repository in [&first, &second] {
        add_blob(repository, "other");
    }
    let digest = Digest::of(b"x");
    let mut staged = store.stage_fill(&digest).unwrap();
    staged.append(b"x").unwrap();
    age(root.path());
    let collected = collect_while(&store, false, |step| {
        // The first has been looked at by then: its new link is not seen.
        if let Step::Repository("b") = step {
            first.commit_blob(&staged, &digest).unwrap();
        }
    });
    assert_eq!(collected.unwrap().links, 2);
    assert!(first.blob(&digest).unwrap().is_some());
}

#[test]
fn a_manifest_that_needs_what_has_just_gone_is_refused() {
    let (root, store) = store();
    let repository = store.local(&"a".parse().unwrap());
    let blob = add_blob(&repository, "x");
    age(root.path());
    let manifest = json("layers", std::slice::from_ref(&blob), None, "");
    collect_while(&store, false, |step| {
        if let Step::Found(_) = step {
            let refused = push(&repository, &manifest, &["v1"]);
            assert_eq!(refused, Err(vec![blob.clone()]));
        }
    })
    .unwrap();
    assert!(repository.tag(&"v1".parse().unwrap()).unwrap().is_none());
    // Sent again, it is taken.
    add_blob(&repository, "x");
    assert_whole(&repository, &push(&repository, &manifest, &["v1"]).unwrap());
}

/// What is not tagged when it is looked at, and is needed when it is about to go.
#[test]
fn what_is_named_meanwhile_stays_with_everything_below_it() {
    for by_question in [false, true] {
        let (root, store) = store();
        let repository = store.local(&"a".parse().unwrap());
        let (kept, _) = image(&repository, "kept", &["kept"]);
        let (grandchild, layer) = image(&repository, "x", &[]);
        let child = json("manifests", &[grandchild], None, "child");
        let child = push(&repository, &child, &[]).unwrap();
        let attached = json("layers", &[layer], Some(&child), "attached");
        let attached = push(&repository, &attached, &[]).unwrap();
        let (gone, gone_layer) = image(&repository, "gone", &[]);
        age(root.path());
        let index = json("manifests", &[child.clone(), kept.clone()], None, "index");
        let collected = collect_while(&store, true, |step| match step {
            Step::Manifest(_, digest) if *digest == kept => {
                if by_question {
                    assert!(repository.rely_on_manifest(&child).unwrap().is_some());
                } else {
                    push(&repository, &index, &["v1"]).unwrap();
                }
            }
            _ => {}
        });
        for manifest in [&kept, &child, &attached] {
            assert_whole(&repository, manifest);
        }
        assert_eq!(collected.unwrap().manifests, 1);
        assert!(repository.manifest(&gone).unwrap().is_none());
        assert!(repository.blob(&gone_layer).unwrap().is_none());
    }
}

/// A step of a push is wholly before a removal or wholly after it.
#[test]
fn a_push_and_a_removal_do_not_mix() {
    let (_root, store) = store();
    let repository = store.local(&"a".parse().unwrap());
    for round in 0..40 {
        let blob = add_blob(&repository, &round.to_string());
        let manifest = json("layers", std::slice::from_ref(&blob), None, "");
        let ready = Barrier::new(2);
        let pushed = std::thread::scope(|threads| {
            let alone = store.holds().exclusive().unwrap();
            let pushing = threads.spawn(|| {
                ready.wait();
                push(&repository, &manifest, &["v1"])
            });
            ready.wait();
            // The other one gets every chance to do what it must not.
            for _ in 0..50 * (round % 8) {
                std::thread::yield_now();
            }
            publish::unlink(&store.layout().layer_link(repository.name(), &blob)).unwrap();
            drop(alone);
            pushing.join().unwrap()
        });
        assert_eq!(pushed, Err(vec![blob]), "round {round}");
    }
}

#[test]
fn mirrors_keep_what_they_have() {
    let (root, store) = store();
    let mirror = store.mirror(&"docker.io/library/app".parse().unwrap());
    let blob = add_blob(&mirror, "x");
    let bytes = json("layers", &[Digest::of(b"elsewhere")], None, "");
    let manifest = Digest::of(bytes.as_bytes());
    let media_type = MediaType::known(media::OCI_MANIFEST);
    mirror
        .put_manifest(&manifest, &media_type, bytes.as_bytes())
        .unwrap();
    // Nor does one lose anything that nobody could have pushed.
    let foreign = root.path().join("docker/registry/v2/repositories/Foreign");
    let hex = blob.hex();
    let link = foreign.join(format!("_layers/sha256/{hex}"));
    fs::create_dir_all(&link).unwrap();
    fs::write(link.join("link"), blob.as_str()).unwrap();
    age(root.path());
    let collected = collect_while(&store, true, |_| ()).unwrap();
    assert_eq!(collected, Collected::default());
    assert!(mirror.blob(&blob).unwrap().is_some() && mirror.has_manifest(&manifest).unwrap());
    assert!(link.join("link").exists());
}

#[test]
fn a_tree_whose_repositories_are_not_mounted_is_not_garbage() {
    let (root, store) = store();
    add_blob(&store.local(&"a".parse().unwrap()), "x");
    age(root.path());
    let base = root.path().join("docker/registry/v2");
    fs::rename(base.join("repositories"), root.path().join("elsewhere")).unwrap();
    let refused = collect_while(&store, false, |_| ());
    assert!(matches!(refused, Err(CollectError::NoRepositories(_))));
    // Where a symbolic link leads, is mounted.
    std::os::unix::fs::symlink(root.path().join("elsewhere"), base.join("repositories")).unwrap();
    fs::create_dir(root.path().join("disk")).unwrap();
    fs::rename(root.path().join("elsewhere/a"), root.path().join("disk/a")).unwrap();
    std::os::unix::fs::symlink(root.path().join("disk/a"), root.path().join("elsewhere/a"))
        .unwrap();
    std::os::unix::fs::symlink("..", root.path().join("elsewhere/loop")).unwrap();
    let repository = store.local(&"a".parse().unwrap());
    let layer = Digest::of(b"x");
    push(&repository, &json("layers", &[layer], None, ""), &["v1"]).unwrap();
    age(root.path().join("disk").as_path());
    let collected = collect_while(&store, true, |_| ()).unwrap();
    assert_eq!(collected, Collected::default());
}

#[test]
fn one_that_is_told_to_stop_stops() {
    let (root, store) = store();
    let repository = store.local(&"a".parse().unwrap());
    add_blob(&repository, "x");
    age(root.path());
    let collection = Collection {
        untagged: false,
        grace: Duration::ZERO,
        dry_run: false,
    };
    let stopped = store.collect(collection, &|| true, &mut |_| ());
    assert!(matches!(stopped, Err(CollectError::Stopped)));
}

#[test]
fn pushes_wait_for_moments_only() {
    let (root, store) = store();
    let repository = store.local(&"a".parse().unwrap());
    add_blob(&repository, "x");
    for blob in 0..300 {
        let digest = Digest::of(format!("{blob}").as_bytes());
        publish::write_hint(&store.layout().blob_data(&digest), b"x").unwrap();
    }
    age(root.path());
    std::thread::scope(|threads| {
        let collecting = threads.spawn(|| collect_while(&store, false, |_| ()).unwrap());
        let mut longest = Duration::ZERO;
        while !collecting.is_finished() {
            let started = Instant::now();
            drop(store.holds().shared().unwrap());
            longest = longest.max(started.elapsed());
        }
        assert!(longest < Duration::from_secs(2), "{longest:?}");
        assert_eq!(collecting.join().unwrap().blobs, 301);
    });
    assert!(repository.tags().unwrap().is_none());
}

#[test]
fn the_need_for_a_manifest_is_told_from_that_for_a_blob() {
    let (_root, store) = store();
    let repository = store.local(&"a".parse().unwrap());
    let (manifest, layer) = image(&repository, "x", &[]);
    let held = store.holds().shared().unwrap();
    for (need, is_here) in [
        (Need::Manifest(manifest.clone()), true),
        (Need::Blob(layer.clone()), true),
        (Need::Manifest(layer), false),
        (Need::Blob(manifest), false),
    ] {
        assert_eq!(repository.rely_on(&need, &held).unwrap(), is_here);
    }
}
