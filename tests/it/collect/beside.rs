//! Collecting beside a server that goes on serving, and being killed at it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::{age, data};
use crate::registry::{assert_pullable, delete, push_small};
use crate::support::image::{Image, sha256};
use crate::support::programs::{Larder, Options};
use crate::support::tree::{assert_sound, files};

#[tokio::test]
async fn beside_a_server_what_is_young_stays() {
    let larder = Options::registry().start().await;
    let image = Image::random(1, &[3_000]);
    larder.push("a", "v1", &image).await;
    let garbage = larder.push_blob("a", b"garbage").await;
    let said = larder.garbage_collect(&[]).await;
    assert!(said.success, "{said:?}");
    assert!(said.stderr.contains("a larder serves "), "{said:?}");
    assert!(
        said.stderr.contains("touched in the last 1h stays"),
        "{said:?}"
    );
    assert!(data(&larder, &garbage).exists());
    // Old, but asked for by somebody who will not send it.
    for (is_asked_for, stays) in [(true, true), (false, false)] {
        age(&larder.tree());
        if is_asked_for {
            assert_eq!(
                larder.head(&format!("/v2/a/blobs/{garbage}")).await.status,
                200
            );
        }
        larder.garbage_collect(&[]).await.expect_success();
        assert_eq!(data(&larder, &garbage).exists(), stays);
    }
    assert_eq!(
        larder.head(&format!("/v2/a/blobs/{garbage}")).await.status,
        404
    );
    assert_pullable(&larder, "a", "v1", &image).await;
    larder.finish().await;
}

#[tokio::test]
async fn the_grace_period_can_be_chosen() {
    let larder = Options::registry().start().await;
    let garbage = larder.push_blob("a", b"garbage").await;
    larder
        .garbage_collect(&["--grace", "1m"])
        .await
        .expect_success();
    assert!(data(&larder, &garbage).exists());
    larder
        .garbage_collect(&["--grace", "0s"])
        .await
        .expect_success();
    assert!(!data(&larder, &garbage).exists());
    let refused = larder.garbage_collect(&["--grace", "soon"]).await;
    assert!(
        !refused.success && refused.stderr.contains("--grace"),
        "{refused:?}"
    );
    larder.finish().await;
}

/// One blob of garbage after another, all of them old.
async fn litter(larder: &Larder, round: usize) {
    let image = Image::random(100 + round as u64, &[3_000; 12]);
    larder.push("litter", "v1", &image).await;
    let path = format!("/v2/litter/manifests/{}", image.digest());
    assert_eq!(delete(larder, &path).await.status, 202);
    push_small(
        larder,
        "kept",
        &format!("t{round}"),
        &format!("kept {round}"),
    )
    .await;
}

#[tokio::test]
async fn a_collection_that_is_killed_leaves_a_sound_tree() {
    let mut larder = Options::registry().start().await;
    for round in 0..12 {
        litter(&larder, round).await;
        let before = files(&larder.tree()).len();
        let (mut command, _home) = larder.collector(&["-m", "--grace", "0s"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut collector = command.spawn().expect("larder starts");
        // Else it could take the directory for itself while the server is down.
        let mut said = BufReader::new(collector.stderr.take().expect("a pipe"));
        let mut line = String::new();
        said.read_line(&mut line).expect("a line");
        assert!(line.contains("collecting beside it"), "{line}");
        // From hardly started to nearly through: it is killed once so many of its files are gone.
        let gone = || before.saturating_sub(files(&larder.tree()).len());
        while gone() < 2 * round && collector.try_wait().expect("our own child").is_none() {
            tokio::task::yield_now().await;
        }
        // The server is killed in the middle of it, too.
        if round % 3 == 2 {
            larder.kill().await;
            larder.start_again().await;
        }
        collector.kill().expect("our own child");
        collector.wait().expect("our own child");
        assert_sound(&larder.tree());
        for kept in 0..=round {
            let config = sha256(format!("kept {kept}").as_bytes());
            assert!(data(&larder, &config).exists());
            let tag = larder.get(&format!("/v2/kept/manifests/t{kept}")).await;
            assert_eq!(tag.status, 200);
        }
    }
    larder
        .garbage_collect(&["--grace", "0s"])
        .await
        .expect_success();
    let litter = files(&larder.tree().join("repositories/litter"));
    assert!(litter.is_empty(), "{litter:#?}");
    // Where files must have names, a collection that is killed while it reads the file system's
    // time leaves the file it read it off. It is swept as other torn writes are.
    larder.finish_with_parts().await;
}

/// Both keep what is removed apart from what is linked, so that two do no harm; but one is enough.
#[tokio::test]
async fn collections_side_by_side_do_no_harm() {
    let larder = Options::registry().start().await;
    for round in 0..4 {
        litter(&larder, round).await;
    }
    let arguments = ["-m", "--grace", "0s"];
    let (first, second) = tokio::join!(
        larder.garbage_collect(&arguments),
        larder.garbage_collect(&arguments)
    );
    assert!(first.success || second.success);
    for said in [first, second] {
        assert!(
            said.success || said.stderr.contains("another collection"),
            "{said:?}"
        );
    }
    for round in 0..4 {
        let tag = larder.get(&format!("/v2/kept/manifests/t{round}")).await;
        assert_eq!(tag.status, 200);
    }
    larder.finish().await;
}
