//! A disk that fails: reads and writes that end in EIO, and syncs that do. The kernel is made to
//! fail them by `strace`.

use super::{MB, assert_not_stored, content, mirror_on, path, place, said};
use crate::registry::{blob, close_upload, open_upload, patch};
use crate::support::disk::Disk;
use crate::support::hub::Hub;
use crate::support::image::sha256;
use crate::support::programs::{Failing, Larder, Options};

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_cannot_be_synced_is_passed_on_and_not_kept() {
    let hub = Hub::start().await;
    let disk = Disk::of("32m");
    let larder = mirror_on(&hub, &disk).await;
    let bytes = content(1, 3 * MB);
    let digest = hub.put_blob("library/x", bytes.clone());
    let fill = place(&larder, &digest).join("fill");
    // That there is no room may be found out only then: the file system had put it off.
    for error in ["EIO", "ENOSPC"] {
        let failing = Failing::calls(&larder, "fsync", error, &[&fill]).await;
        let got = larder.get(&path(&digest)).await;
        assert!(got.complete && got.body == bytes, "{}", larder.log());
        assert_not_stored(&larder, &digest);
        // A sync that failed is not tried again and called good.
        assert_eq!(failing.failed(), 1);
        failing.end().await;
    }
    let said = said(&larder);
    assert!(
        said.len() == 1 && said[0].contains("the disk fails"),
        "{said:?}"
    );
    // All of it had been written, so nothing was fetched again for that.
    assert_eq!(hub.blob_gets(), 2);
    assert_eq!(larder.get(&path(&digest)).await.cache(), "miss");
    assert_eq!(larder.get(&path(&digest)).await.cache(), "hit");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_synced_leaves_nothing_that_looks_stored() {
    let hub = Hub::start().await;
    let disk = Disk::of("32m");
    let larder = mirror_on(&hub, &disk).await;
    let bytes = content(1, 3 * MB);
    let digest = hub.put_blob("library/x", bytes.clone());
    let failing = Failing::calls(&larder, "fsync", "EIO", &[&place(&larder, &digest)]).await;
    let got = larder.get(&path(&digest)).await;
    assert!(got.complete && got.body == bytes, "{}", larder.log());
    assert_not_stored(&larder, &digest);
    assert!(failing.failed() > 0);
    failing.end().await;
    assert_eq!(larder.get(&path(&digest)).await.cache(), "miss");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_cannot_be_written_is_passed_on() {
    let hub = Hub::start().await;
    let disk = Disk::of("32m");
    let larder = mirror_on(&hub, &disk).await;
    let bytes = content(1, 3 * MB);
    let digest = hub.put_blob("library/x", bytes.clone());
    let fill = place(&larder, &digest).join("fill");
    let failing = Failing::calls(&larder, "write,writev", "EIO", &[&fill]).await;
    let got = larder.get(&path(&digest)).await;
    assert!(got.complete && got.body == bytes, "{}", larder.log());
    assert_not_stored(&larder, &digest);
    assert!(failing.failed() > 0);
    failing.end().await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_sync_fails_is_refused_and_the_bytes_are_taken_back() {
    let disk = Disk::of("32m");
    let larder = Options::registry().on(&disk.root()).start().await;
    let session = open_upload(&larder, "a").await;
    let (first, second) = (content(1, MB), content(2, MB));
    let acknowledged = patch(&larder, &session, &first).await;
    let session = acknowledged.header("location").to_owned();
    let id = session
        .rsplit('/')
        .next()
        .unwrap()
        .split('?')
        .next()
        .unwrap();
    let data = larder
        .tree()
        .join(format!("repositories/a/_uploads/{id}/data"));
    let whole = [first.clone(), second.clone()].concat();
    let failing = Failing::calls(&larder, "fsync", "EIO", &[&data]).await;
    let refused = patch(&larder, &session, &second).await;
    assert_eq!(refused.status, 507, "{refused:?}");
    let refused = close_upload(&larder, &session, &sha256(&whole), &second).await;
    assert_eq!(refused.status, 507, "{refused:?}");
    assert!(
        refused.json()["errors"][0]["message"]
            .to_string()
            .contains("replace the disk")
    );
    assert_eq!(failing.failed(), 2);
    failing.end().await;
    assert_eq!(
        larder.get(&session).await.header("range"),
        format!("0-{}", MB - 1)
    );
    let closed = close_upload(&larder, &session, &sha256(&whole), &second).await;
    assert_eq!(closed.status, 201, "{closed:?}");
    assert_eq!(blob(&larder, "a", &sha256(&whole)).await, whole);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_fails_on_its_way_to_the_disk_is_refused_although_the_last_sync_succeeds() {
    let disk = Disk::of("128m");
    let larder = Options::registry().on(&disk.root()).start().await;
    let whole = content(1, 40 * MB);
    let digest = sha256(&whole);
    let session = open_upload(&larder, "a").await;
    for error in ["EIO:when=1", "ENOSPC:when=1"] {
        let failing = Failing::calls(&larder, "fdatasync", error, &[]).await;
        let refused = patch(&larder, &session, &whole).await;
        assert_eq!(refused.status, 507, "{refused:?}");
        assert_eq!(failing.failed(), 1);
        failing.end().await;
        // Nothing of it counts, and its part is not gone on with.
        assert_eq!(larder.get(&session).await.header("range"), "0-0");
        assert_not_stored(&larder, &digest);
    }
    let closed = close_upload(&larder, &session, &digest, &whole).await;
    assert_eq!(closed.status, 201, "{closed:?}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_fails_on_its_way_to_the_disk_is_passed_on_and_not_kept() {
    let hub = Hub::start().await;
    let disk = Disk::of("128m");
    let larder = mirror_on(&hub, &disk).await;
    let bytes = content(1, 40 * MB);
    let digest = hub.put_blob("library/x", bytes.clone());
    let fill = place(&larder, &digest).join("fill");
    let failing = Failing::calls(&larder, "fdatasync", "EIO:when=1", &[&fill]).await;
    let got = larder.get(&path(&digest)).await;
    assert!(got.complete && got.body == bytes, "{}", larder.log());
    assert_not_stored(&larder, &digest);
    assert_eq!(failing.failed(), 1);
    failing.end().await;
    assert_eq!(larder.get(&path(&digest)).await.cache(), "miss");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_cannot_be_written_is_told_why() {
    let disk = Disk::of("32m");
    let larder = Options::registry().on(&disk.root()).start().await;
    let session = open_upload(&larder, "a").await;
    let id = session.rsplit('/').next().unwrap();
    let id = id.split('?').next().unwrap();
    let data = larder
        .tree()
        .join(format!("repositories/a/_uploads/{id}/data"));
    for (error, says) in [
        ("ENOSPC", "disk is full"),
        ("EDQUOT", "disk is full"),
        ("EROFS", "read-only"),
        ("EIO", "fails to write"),
    ] {
        let failing = Failing::calls(&larder, "write,writev", error, &[&data]).await;
        let refused = patch(&larder, &session, b"abc").await;
        let message = refused.json()["errors"][0]["message"].to_string();
        assert!(refused.status == 507 && message.contains(says), "{message}");
        failing.end().await;
    }
    let closed = close_upload(&larder, &session, &sha256(b"abc"), b"abc").await;
    assert_eq!(closed.status, 201, "{closed:?}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_disk_does_not_give_back_is_fetched_again() {
    let hub = Hub::start().await;
    let disk = Disk::of("64m");
    let mut larder = mirror_on(&hub, &disk).await;
    for (seed, length) in [(1, 100_000), (2, 17 * MB)] {
        let bytes = content(seed, length);
        let digest = hub.put_blob("library/x", bytes.clone());
        assert_eq!(larder.get(&path(&digest)).await.cache(), "miss");
        larder.kill().await;
        larder.start_again().await;
        let data = place(&larder, &digest).join("data");
        let failing = Failing::calls(&larder, "pread64", "EIO:when=1", &[&data]).await;
        // The first read of each of its threads fails, also of what has been fetched again.
        let mut tries = 0;
        while !got_all(&larder, &digest, &bytes).await {
            tries += 1;
            assert!(tries < 100, "{length}: {}", larder.log());
        }
        assert!(failing.failed() > 0);
        failing.end().await;
        // What was written anew has taken its place.
        assert_eq!(larder.get(&path(&digest)).await.cache(), "hit");
    }
    larder.finish().await;
}

/// Whether an answer comes to its end; then it is right.
async fn got_all(larder: &Larder, digest: &str, bytes: &[u8]) -> bool {
    let Ok(answer) = larder.request("GET", &path(digest)).send().await else {
        return false;
    };
    let status = answer.status();
    match answer.bytes().await {
        Ok(got) => status == 200 && got == bytes,
        Err(_) => false,
    }
}
