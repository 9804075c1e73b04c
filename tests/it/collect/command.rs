//! The command itself: its switches, and an output that takes nothing any more.

use std::fs::{File, OpenOptions};
use std::process::{Output, Stdio};

use crate::registry::delete;
use crate::support::image::{Image, sha256};
use crate::support::programs::{Larder, Options};

use super::{age, data};

const BYTES: &[u8] = b"nobody refers to it";

/// A repository with a blob that is garbage, a manifest without a tag, and one with.
async fn with_garbage() -> (Larder, Image) {
    let larder = Options::registry().start().await;
    larder.push_blob("a", BYTES).await;
    let untagged = Image::random(1, &[3000]);
    larder.push("a", "old", &untagged).await;
    larder.push("a", "new", &Image::random(2, &[3000])).await;
    assert_eq!(delete(&larder, "/v2/a/manifests/old").await.status, 202);
    age(&larder.tree());
    (larder, untagged)
}

#[tokio::test]
async fn switches_have_values_as_in_go() {
    let (larder, untagged) = with_garbage().await;
    let (blob, manifest) = (
        data(&larder, &sha256(BYTES)),
        data(&larder, &untagged.digest()),
    );
    for (arguments, goes) in [
        (&["--dry-run=true"][..], "would remove 0 manifests,"),
        (&["-d=1", "-m=T"], "would remove 1 manifests,"),
        (&["-dm=t"], "would remove 1 manifests,"),
        (&["-dm"], "would remove 1 manifests,"),
        (
            &["--dry-run", "-m", "--delete-untagged=F"],
            "would remove 0",
        ),
        (
            &["--dry-run=false", "-d=TRUE", "--quiet=0"],
            "would remove 0",
        ),
    ] {
        let said = larder.garbage_collect(arguments).await;
        let said = said.expect_success();
        assert!(said.contains("eligible for deletion"), "{said}");
        assert!(blob.exists() && manifest.exists(), "{arguments:?}");
        let summary = larder.garbage_collect(arguments).await.stderr;
        assert!(summary.contains(goes), "{arguments:?}: {summary}");
    }
    for wrong in ["--dry-run=yes", "--dry-run=", "-m=2", "-dx"] {
        let refused = larder.garbage_collect(&[wrong]).await;
        assert!(!refused.success, "{wrong}: {refused:?}");
        assert!(blob.exists() && manifest.exists(), "{wrong}");
    }
    let removing = ["--dry-run", "--dry-run=false", "--delete-untagged=false"];
    larder.garbage_collect(&removing).await.expect_success();
    assert!(!blob.exists() && manifest.exists());
    let removing = ["--delete-untagged=true", "-q=True"];
    let said = larder.garbage_collect(&removing).await.expect_success();
    assert_eq!(said, "");
    assert!(!manifest.exists());
    larder.finish().await;
}

/// Collects garbage with that as its standard output.
async fn saying_to(larder: &Larder, out: impl Into<Stdio>) -> Output {
    let (mut collector, _home) = larder.collector(&[]);
    collector.stdout(out).stderr(Stdio::piped());
    let collector = tokio::process::Command::from(collector).spawn();
    let ended = collector.expect("it starts").wait_with_output().await;
    ended.expect("it runs")
}

#[tokio::test]
async fn a_listener_who_leaves_misses_nothing_and_a_full_disk_is_told_of() {
    let (larder, _) = with_garbage().await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = saying_to(&larder, writer).await;
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{complaint}");
    assert!(!complaint.contains("ipe"), "{complaint}");
    assert!(!data(&larder, &sha256(BYTES)).exists());

    larder.push_blob("a", BYTES).await;
    age(&larder.tree());
    let full: File = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = saying_to(&larder, full).await;
    let complaint = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{complaint}");
    let wanted = "cannot write to standard output: No space left on device";
    assert!(complaint.contains(wanted), "{complaint}");
    assert!(complaint.contains("removed 0 manifests, 1 layer links and 1 blobs"));
    assert!(!data(&larder, &sha256(BYTES)).exists());
    larder.finish().await;
}
