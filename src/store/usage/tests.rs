#![expect(
    clippy::disallowed_methods,
    reason = "tests make and break files as they like"
)]

use super::*;
use crate::oci::{MediaType, media};
use crate::store::{Push, Repository, TagState};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const HOUR: Duration = Duration::from_hours(1);

fn store() -> (tempfile::TempDir, Store) {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    (root, store)
}

fn add_blob(repository: &Repository, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    let mut staged = repository.store.stage_fill(&digest).unwrap();
    staged.restart().unwrap();
    staged.append(content).unwrap();
    repository.commit_blob(&staged, &digest).unwrap();
    digest
}

fn json(kind: &str, named: &[&Digest]) -> String {
    let descriptor = |digest: &&Digest| format!(r#"{{"digest":"{digest}"}}"#);
    let listed: Vec<_> = named.iter().map(descriptor).collect();
    format!(r#"{{"schemaVersion":2,"{kind}":[{}]}}"#, listed.join(","))
}

fn put(repository: &Repository, json: &str, tags: &[&str]) -> Digest {
    let digest = Digest::of(json.as_bytes());
    let media_type = MediaType::known(media::OCI_MANIFEST);
    let put = repository.put_manifest(&digest, &media_type, json.as_bytes());
    put.unwrap();
    for tag in tags {
        let state = TagState {
            digest: digest.clone(),
            checked: SystemTime::now(),
            stale_since: None,
        };
        repository
            .put_tag_state(&tag.parse().unwrap(), &state)
            .unwrap();
    }
    digest
}

/// An image of a mirror with one layer, and that layer.
fn image(repository: &Repository, content: &[u8], tags: &[&str]) -> (Digest, Digest) {
    let layer = add_blob(repository, content);
    let manifest = put(repository, &json("layers", &[&layer]), tags);
    (manifest, layer)
}

/// Accounts that have seen everything, in which nothing was just used.
fn accounts(store: &Store) -> Accounts {
    accounts_later(store, 1)
}

/// The same with a clock that is so many hours ahead of the files.
fn accounts_later(store: &Store, hours: u64) -> Accounts {
    let accounts = Accounts::new(store.clone());
    let root = &store.inner.root;
    let now = Age::of(SystemTime::now());
    let saved = format!("{} {}\n", now.0, now.0 + hours * 3_600_000_000);
    fs::write(Layout::clock(root), saved).unwrap();
    for path in files(root) {
        let file = File::open(&path).unwrap();
        file.set_modified(SystemTime::now() - HOUR).unwrap();
    }
    accounts.survey(&|| false).unwrap();
    accounts
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn bytes(bytes: u64) -> Order {
    Order {
        bytes,
        ..Order::default()
    }
}

fn evict(accounts: &Accounts, order: Order) -> Evicted {
    accounts.evict(order, &Kept::default(), &|| false).unwrap()
}

#[test]
fn an_image_goes_without_a_trace_and_nothing_else_does() {
    let (root, store) = store();
    let other = store.mirror(&"ghcr.io/b".parse().unwrap());
    let (kept, kept_layer) = image(&other, &[2; 5000], &["v1"]);
    let before = files(&root.path().join("docker"));
    let mirror = store.mirror(&"docker.io/team/a".parse().unwrap());
    let (manifest, layer) = image(&mirror, &[1; 5000], &["v1", "v2"]);
    // A tag that has moved, and so has a history.
    put(&mirror, &json("layers", &[&layer, &layer]), &["v2"]);
    // Its link stays for the other; its data is one.
    assert!(mirror.link_blob(&kept_layer).unwrap());
    let accounts = accounts(&store);
    accounts.note_use(other.name(), &kept);
    accounts.tick().unwrap();
    assert_eq!(accounts.totals().unwrap().images, 4, "with one orphan");

    let evicted = evict(&accounts, bytes(5000));
    assert!(evicted.is_enough && evicted.bytes >= 5000, "{evicted:?}");
    let evicted = evict(&accounts, bytes(u64::MAX));
    assert!(!evicted.is_enough);
    assert!(mirror.manifest(&manifest).unwrap().is_none());
    assert!(!store.has_data(&layer).unwrap());
    let mut after = files(&root.path().join("docker"));
    after.retain(|path| !path.components().any(|step| step.as_os_str() == "used"));
    assert_eq!(after.len(), before.len(), "{after:#?}");
    let left = root
        .path()
        .join("docker/registry/v2/repositories/docker.io");
    assert!(!left.exists(), "empty directories take inodes as well");
    assert_eq!(other.blob(&kept_layer).unwrap().unwrap().size(), 5000);
    let totals = accounts.totals().unwrap();
    assert_eq!(totals.images, 1);
    // A walk says the same as the account.
    assert_eq!(accounts.survey(&|| false).unwrap(), totals);
}

#[test]
fn what_this_process_links_and_serves_after_the_walk_is_known() {
    let (_root, store) = store();
    let mirror = store.mirror(&"docker.io/team/a".parse().unwrap());
    let (_, shared) = image(&mirror, &[1; 100], &["old"]);
    let accounts = accounts(&store);
    // Pushed by somebody who was told that the blob need not be sent.
    let local = store.local(&"team/mine".parse().unwrap());
    assert!(local.link_blob(&shared).unwrap());
    let (new, _) = image(&mirror, &[3; 100], &["new"]);
    let evicted = evict(&accounts, bytes(u64::MAX));
    assert_eq!(evicted.images, 1);
    assert!(mirror.blob(&shared).unwrap().is_none());
    assert_eq!(local.blob(&shared).unwrap().unwrap().size(), 100);
    assert!(mirror.manifest(&new).unwrap().is_some(), "just pulled");
}

#[test]
fn what_is_being_linked_when_a_walk_begins_is_not_taken_for_nobodys() {
    let (_root, store) = store();
    let mirror = store.mirror(&"docker.io/team/a".parse().unwrap());
    let local = store.local(&"team/mine".parse().unwrap());
    // In the first walk, before which nobody wants to be told anything, and in one after it.
    for is_first in [true, false] {
        let (manifest, shared) = image(&mirror, &[1; 100], &["old"]);
        let mut accounts = accounts(&store);
        if is_first {
            accounts = Accounts::new(store.clone());
        }
        let held = store.holds().shared().unwrap();
        let journal = store.journal();
        journal.layer(local.name(), local.kind(), &shared, 100);
        let link = store.layout().layer_link(local.name(), &shared);
        // Somebody waits at the turnstile for those who are linking.
        let turnstile = Layout::turn(&store.inner.root);
        let is_shut = || File::open(&turnstile).unwrap().try_lock_shared().is_err();
        thread::scope(|threads| {
            let walking = threads.spawn(|| accounts.survey(&|| false).unwrap());
            while !walking.is_finished() && !is_shut() {
                thread::yield_now();
            }
            crate::store::link::write(&link, &shared, &held).unwrap();
            drop(held);
        });
        evict(&accounts, bytes(u64::MAX));
        assert!(mirror.manifest(&manifest).unwrap().is_none());
        assert_eq!(local.blob(&shared).unwrap().unwrap().size(), 100);
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn what_others_link_beside_is_not_taken_for_nobodys() {
    let (root, store) = store();
    let mirror = store.mirror(&"docker.io/team/a".parse().unwrap());
    let (_, layer) = image(&mirror, &[1; 100], &["v1"]);
    let accounts = accounts(&store);
    let beside = Store::open_to_collect(root.path()).unwrap();
    fs::write(Layout::beside(root.path()), "").unwrap();
    let theirs = beside.mirror(&"docker.io/team/b".parse().unwrap());
    assert!(theirs.link_blob(&layer).unwrap());
    let evicted = evict(&accounts, bytes(u64::MAX));
    assert!(evicted.is_stale && evicted.images == 0);
    accounts.survey(&|| false).unwrap();
    evict(&accounts, bytes(u64::MAX));
    assert!(theirs.blob(&layer).unwrap().is_some());
    // One who does not say so is noticed by the data's time.
    let (_, layer) = image(&theirs, &[2; 100], &["v1"]);
    let accounts = self::accounts(&store);
    let local = beside.local(&"team/mine".parse().unwrap());
    assert!(local.link_blob(&layer).unwrap());
    evict(&accounts, bytes(u64::MAX));
    assert!(local.blob(&layer).unwrap().is_some());
}

#[test]
fn what_a_killed_eviction_had_unlinked_goes_after_the_next_walk() {
    let (root, store) = store();
    let mirror = store.mirror(&"docker.io/team/a".parse().unwrap());
    let (manifest, layer) = image(&mirror, &[1; 100], &["v1"]);
    let mine = add_blob(&store.local(&"team/mine".parse().unwrap()), &[2; 100]);
    // Killed after the links, before the data.
    let layout = store.layout();
    fs::remove_dir_all(layout.manifests(mirror.name())).unwrap();
    fs::remove_dir_all(layout.layers(mirror.name())).unwrap();
    let husk = layout.tag_history(mirror.name(), &"v1".parse().unwrap(), &manifest);
    fs::create_dir_all(husk.parent().unwrap()).unwrap();
    fs::write(&husk, manifest.as_str()).unwrap();
    let note = format!("{layer}\n{manifest}\n{mine}\nnonsense\n");
    fs::write(Layout::evicting(root.path()), note).unwrap();
    let accounts = accounts(&store);
    let evicted = evict(&accounts, Order::default());
    assert!(evicted.bytes > 100, "{evicted:?}");
    assert!(!store.has_data(&layer).unwrap() && !store.has_data(&manifest).unwrap());
    assert!(store.has_data(&mine).unwrap(), "it is linked after all");
    assert!(!Layout::evicting(root.path()).exists());
    assert!(!layout.repository(mirror.name()).exists());
}

#[test]
fn who_asks_how_much_there_is_does_not_wait_for_who_reads_the_books() {
    let (_root, store) = store();
    let mirror = store.mirror(&"docker.io/team/a".parse().unwrap());
    add_blob(&mirror, &[1; 5000]);
    let accounts = accounts(&store);
    // What reads them for long is the choice of what goes.
    let read = accounts.books();
    assert_eq!(accounts.cached(), Some(5000));
    add_blob(&mirror, &[2; 300]);
    assert_eq!(accounts.cached(), Some(5300));
    drop(read);
    assert_eq!(accounts.cached(), Some(5300));
    let _read = accounts.books();
    assert_eq!(accounts.cached(), Some(5300), "and it is counted once");
}

#[test]
fn the_picture_is_told_once_of_what_was_used() {
    let (uses, name) = (Uses::default(), "docker.io/team/a".parse().unwrap());
    let at = |age| When::Age(Age(age));
    let ages = |noted: Vec<(RepositoryName, Digest, When)>| {
        let ages = noted.into_iter().map(|(_, _, when)| match when {
            When::Age(age) => age.0,
            When::At(_) => 0,
        });
        ages.collect::<std::collections::BTreeSet<_>>()
    };
    let [found, pulled] = [b"found", b"again"].map(|it| Digest::of(it));
    uses.note_older(&name, &found, at(1));
    uses.note(&name, &pulled, at(2));
    assert_eq!(ages(uses.tell()), [2].into());
    assert!(uses.tell().is_empty());
    uses.note(&name, &pulled, at(3));
    uses.note(&name, &pulled, at(4));
    assert_eq!(ages(uses.tell()), [4].into());
    uses.note(&name, &found, at(5));
    uses.note_older(&name, &pulled, at(1));
    assert_eq!(ages(uses.tell_all()), [4, 5].into(), "a new one, of all");
    assert!(uses.tell().is_empty());
    uses.note(&name, &found, at(6));
    assert_eq!(ages(uses.take()), [4, 6].into(), "to be written");
    assert!(uses.take().is_empty());
}

#[test]
fn no_use_is_on_its_way_to_the_disk_that_an_eviction_does_not_know_of() {
    let (_root, store) = store();
    let mirror = store.mirror(&"docker.io/team/a".parse().unwrap());
    let (manifest, _) = image(&mirror, &[1; 500], &["v1"]);
    let accounts = accounts(&store);
    accounts.tick().unwrap();
    // An eviction has the books while the use is noted, and is to be written.
    let books = accounts.books();
    accounts.note_use(mirror.name(), &manifest);
    let (tell, told) = std::sync::mpsc::channel();
    thread::scope(|threads| {
        let writing = threads.spawn(|| {
            tell.send(()).unwrap();
            accounts.write_uses()
        });
        told.recv().unwrap();
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(50) {
            assert_eq!(accounts.uses.tell_all().len(), 1, "it is noted still");
            thread::yield_now();
        }
        drop(books);
        writing.join().unwrap().unwrap();
    });
    assert!(accounts.uses.tell_all().is_empty(), "written");
}

#[test]
fn uses_outlive_the_process() {
    let (_root, store) = store();
    let mirror = store.mirror(&"docker.io/team/a".parse().unwrap());
    let images: Vec<_> = (0..3).map(|n| image(&mirror, &[n; 100], &[])).collect();
    let accounts = accounts(&store);
    // In another order than they came; noted within a second, each with its own time.
    for at in [1, 2, 0] {
        accounts.note_use(mirror.name(), &images[at].0);
        thread::sleep(Duration::from_millis(2));
    }
    accounts.note_use(mirror.name(), &Digest::of(b"not kept"));
    accounts.tick().unwrap();
    drop(accounts);
    for gone in [1, 2, 0] {
        let later = accounts_later(&store, 2);
        let evicted = evict(&later, bytes(1));
        assert_eq!(evicted.images, 1);
        assert!(mirror.manifest(&images[gone].0).unwrap().is_none());
    }
}

/// Law 4: whatever is not certain to be a mirror's own stays.
#[test]
fn doubt_counts_as_local() {
    let (root, store) = store();
    let mirror = store.mirror(&"docker.io/team/a".parse().unwrap());
    let (manifest, _) = image(&mirror, &[1; 100], &["v1"]);
    let (_, other) = image(&mirror, &[2; 100], &["v2"]);
    let odd = root
        .path()
        .join("docker/registry/v2/repositories/Odd Name/_layers/sha256");
    let hex = other.hex();
    fs::create_dir_all(odd.join(hex)).unwrap();
    fs::write(odd.join(hex).join("link"), other.as_str()).unwrap();
    fs::write(store.layout().blob_data(&manifest), "damaged").unwrap();
    let accounts = self::accounts(&store);
    assert_eq!(evict(&accounts, bytes(u64::MAX)).images, 0);
    // Pulled again: whole, and no doubt after the next walk.
    put(&mirror, &json("layers", &[&Digest::of(&[1; 100])]), &["v1"]);
    let accounts = self::accounts(&store);
    assert_eq!(evict(&accounts, bytes(u64::MAX)).images, 2);
    assert!(store.has_data(&other).unwrap(), "linked under an odd name");
}

/// Links, pushes and evictions from several threads: what is linked has its data at the end.
#[test]
fn nothing_that_is_linked_loses_its_data() {
    let (_root, store) = store();
    let accounts = accounts(&store);
    let done = AtomicBool::new(false);
    let local = store.local(&"team/mine".parse().unwrap());
    let (mut evicted, mut pushed) = (0, Vec::new());
    thread::scope(|threads| {
        threads.spawn(|| {
            let mirror = store.mirror(&"docker.io/team/a".parse().unwrap());
            for n in (0..25_u8).chain(0..25) {
                image(&mirror, &[n; 1000], &["latest"]);
            }
            done.store(true, Ordering::SeqCst);
        });
        let pushing = threads.spawn(|| {
            let mut pushed = Vec::new();
            for n in (0..25_u8).cycle() {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                let layer = Digest::of(&[n; 1000]);
                if local.link_blob(&layer).unwrap() {
                    pushed.push(layer);
                }
                let bytes = json("layers", &[]);
                let media_type = MediaType::known(media::OCI_MANIFEST);
                let push = local.push_manifest(&Push {
                    digest: &Digest::of(bytes.as_bytes()),
                    media_type: &media_type,
                    bytes: bytes.as_bytes(),
                    needs: &[],
                    subject: None,
                    tags: &[],
                });
                assert!(push.unwrap().is_empty());
            }
            pushed
        });
        while !done.load(Ordering::SeqCst) {
            // As if an hour had passed since each pull.
            accounts.with_clock(|clock| {
                *clock = Clock::start(
                    Some(clock.saved()),
                    SystemTime::now() + HOUR,
                    Instant::now(),
                );
                clock.advance(SystemTime::now(), Instant::now());
            });
            evicted += evict(&accounts, bytes(u64::MAX)).images;
        }
        pushed = pushing.join().unwrap();
    });
    assert!(evicted > 0 && !pushed.is_empty());
    for layer in pushed {
        assert_eq!(local.blob(&layer).unwrap().expect("a blob").size(), 1000);
    }
}
