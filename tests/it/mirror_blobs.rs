//! Blobs of a mirror: fetched once, resumed, shared, and described without being fetched.

use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::Options;
use crate::support::tree::files;

fn content(length: u32) -> Vec<u8> {
    (0..length).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_is_fetched_once_and_then_comes_from_the_disk() {
    let hub = Hub::builder().bearer().cdn().start().await;
    let digest = hub.put_blob("library/x", content(100_000));
    let larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/x/blobs/{digest}");
    let miss = larder.get(&path).await;
    assert_eq!(
        (miss.status, miss.cache(), miss.body == content(100_000)),
        (200, "miss", true)
    );
    for name in [
        "content-length",
        "docker-content-digest",
        "etag",
        "cache-control",
        "accept-ranges",
    ] {
        assert!(!miss.header(name).is_empty(), "{name}");
    }
    hub.clear_log();
    let hit = larder.get(&path).await;
    assert_eq!((hit.cache(), hit.body == miss.body), ("hit", true));
    let differing: Vec<_> = miss
        .headers
        .iter()
        .filter(|(name, value)| hit.headers.get(*name) != Some(*value))
        .collect();
    assert!(
        differing
            .iter()
            .all(|(name, _)| ["x-cache", "date"].contains(&name.as_str())),
        "{differing:?}"
    );
    assert!(hub.asked().is_empty());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_on_a_miss_asks_the_upstream_and_downloads_nothing() {
    let hub = Hub::start().await;
    let digest = hub.put_blob("library/x", content(1000));
    let larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/x/blobs/{digest}");
    let head = larder.head(&path).await;
    assert_eq!(
        (head.status, head.header("content-length"), head.cache()),
        (200, "4000", "miss")
    );
    assert_eq!(head.header("docker-content-digest"), digest);
    assert_eq!((hub.blob_heads(), hub.blob_gets()), (1, 0));
    assert!(files(&larder.tree()).is_empty(), "a HEAD stores nothing");
    // Where HEAD is refused, as by ECR Public, one byte tells the size.
    hub.fault(Fault::on(Where::blobs().head()).does(What::Status(401, &[], "")));
    assert_eq!(larder.head(&path).await.header("content-length"), "4000");
    assert!(hub.body_bytes() <= 1);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_goes_on_when_its_only_client_hangs_up() {
    let hub = Hub::start().await;
    let digest = hub.put_blob("library/x", content(500_000));
    let gate = hub.fault(Fault::on(Where::blobs().get()).does(What::Gate(Some(500_000))));
    let larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/x/blobs/{digest}");
    let mut first = larder.request("GET", &path).send().await.unwrap();
    assert!(first.chunk().await.unwrap().is_some());
    drop(first);
    hub.open(gate);
    larder.logged("filled").await;
    let hit = larder.get(&path).await;
    assert_eq!((hit.cache(), hit.body == content(500_000)), ("hit", true));
    assert_eq!(hub.blob_gets(), 1);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_holds_up_nobody() {
    let hub = Hub::start().await;
    let large = content(8_000_000);
    let digest = hub.put_blob("library/x", large.clone());
    let larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/x/blobs/{digest}");
    // It asks first and reads nothing: its socket is full long before the 32 MB are through.
    let slow = larder.request("GET", &path).send().await.unwrap();
    let fast = larder.get(&path).await;
    assert!(fast.complete && fast.body == large);
    assert!(slow.bytes().await.unwrap() == large);
    assert_eq!(hub.blob_gets(), 1);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_download_is_resumed_and_the_client_sees_one_whole_answer() {
    for what in [What::TruncateAfter(1_000_001), What::ResetAfter(1_000_001)] {
        let hub = Hub::builder().bearer().cdn().start().await;
        let digest = hub.put_blob("library/x", content(500_000));
        let fault = hub.fault(Fault::on(Where::blobs().get()).times(1).does(what.clone()));
        let larder = Options::mirror_of(&hub).start().await;
        let got = larder.get(&format!("/v2/library/x/blobs/{digest}")).await;
        assert!(
            got.complete && got.body == content(500_000),
            "{what:?}\n{}",
            larder.log()
        );
        assert_eq!(hub.struck(fault), 1);
        assert!(
            hub.body_bytes() < 2_000_000 + 10_000,
            "{what:?}: {}",
            hub.body_bytes()
        );
        larder.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_ignores_the_range_of_a_resume_does_not_spoil_the_blob() {
    for what in [What::IgnoreRange, What::WrongContentRange] {
        let hub = Hub::start().await;
        let digest = hub.put_blob("library/x", content(500_000));
        hub.fault(
            Fault::on(Where::blobs().get())
                .times(1)
                .does(What::TruncateAfter(1_000_000)),
        );
        hub.fault(
            Fault::on(Where::blobs().with_header("range"))
                .times(1)
                .does(what.clone()),
        );
        let larder = Options::mirror_of(&hub).start().await;
        let got = larder.get(&format!("/v2/library/x/blobs/{digest}")).await;
        assert!(
            got.complete && got.body == content(500_000),
            "{what:?}\n{}",
            larder.log()
        );
        larder.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_resumes_after_larder_was_killed() {
    let hub = Hub::start().await;
    let digest = hub.put_blob("library/x", content(500_000));
    let gate = hub.fault(
        Fault::on(Where::blobs().get())
            .times(1)
            .does(What::Gate(Some(1_200_000))),
    );
    let mut larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/x/blobs/{digest}");
    let mut first = larder.request("GET", &path).send().await.unwrap();
    let mut received = 0;
    while received < 1_200_000 {
        received += first.chunk().await.unwrap().unwrap().len();
    }
    larder.kill().await;
    hub.open(gate);
    hub.clear_log();
    larder.start_again().await;
    let got = larder.get(&path).await;
    assert!(got.complete && got.body == content(500_000));
    let asked = hub.asked();
    let ranges: Vec<_> = asked
        .iter()
        .filter_map(|asked| asked.header("range"))
        .collect();
    assert_eq!(ranges, ["bytes=1200000-"]);
    assert_eq!(hub.body_bytes(), 800_000);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_damaged_while_larder_was_down_is_not_believed() {
    let hub = Hub::start().await;
    let digest = hub.put_blob("library/x", content(500_000));
    let mut larder = Options::mirror_of(&hub).start().await;
    let hex = digest.strip_prefix("sha256:").unwrap();
    let fill = larder
        .tree()
        .join(format!("blobs/sha256/{}/{hex}/fill", &hex[..2]));
    larder.kill().await;
    std::fs::create_dir_all(fill.parent().unwrap()).unwrap();
    let path = format!("/v2/library/x/blobs/{digest}");
    // Wrong bytes: the verdict is against all of it, and the next request starts from nothing.
    std::fs::write(&fill, vec![1; 1_000_000]).unwrap();
    larder.start_again().await;
    assert!(!larder.get(&path).await.complete);
    let again = larder.get(&path).await;
    assert!(
        again.complete && again.body == content(500_000),
        "{}",
        larder.log()
    );
    larder.finish().await;
    // More bytes than there are: what is there cannot be a part.
    let larder = Options::mirror_of(&hub).start().await;
    let fill = larder
        .tree()
        .join(format!("blobs/sha256/{}/{hex}/fill", &hex[..2]));
    std::fs::create_dir_all(fill.parent().unwrap()).unwrap();
    std::fs::write(&fill, vec![1; 3_000_000]).unwrap();
    let got = larder.get(&path).await;
    assert!(
        got.complete && got.body == content(500_000),
        "{}",
        larder.log()
    );
    // All of it, but not yet in its place: nobody needs to be asked for a byte.
    let larder = Options::mirror_of(&hub).start().await;
    let fill = larder
        .tree()
        .join(format!("blobs/sha256/{}/{hex}/fill", &hex[..2]));
    std::fs::create_dir_all(fill.parent().unwrap()).unwrap();
    std::fs::write(&fill, content(500_000)).unwrap();
    hub.clear_log();
    let got = larder.get(&path).await;
    assert!(got.complete && got.body == content(500_000));
    assert_eq!(hub.blob_gets(), 0);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_a_blob_still_being_filled_is_served_as_it_comes() {
    let hub = Hub::start().await;
    let whole = content(500_000);
    let digest = hub.put_blob("library/x", whole.clone());
    let gate = hub.fault(Fault::on(Where::blobs().get()).does(What::Gate(Some(1_000_000))));
    let larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/x/blobs/{digest}");
    let first = larder.request("GET", &path).send().await.unwrap();
    let rest = larder
        .request("GET", &path)
        .header("range", "bytes=500000-");
    let mut rest = rest.send().await.unwrap();
    assert_eq!(rest.status().as_u16(), 206);
    assert_eq!(
        rest.headers()["content-range"],
        "bytes 500000-1999999/2000000"
    );
    let mut received = Vec::new();
    while received.len() < 400_000 {
        received.extend_from_slice(&rest.chunk().await.unwrap().unwrap());
    }
    let unsatisfiable = larder
        .request("GET", &path)
        .header("range", "bytes=2000000-");
    assert_eq!(larder.send(unsatisfiable).await.status, 416);
    hub.open(gate);
    while let Some(more) = rest.chunk().await.unwrap() {
        received.extend_from_slice(&more);
    }
    assert!(received == whole[500_000..]);
    assert!(first.bytes().await.unwrap() == whole);
    assert_eq!(hub.blob_gets(), 1);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_another_repository_has_is_linked_after_a_head_and_not_fetched_again() {
    let hub = Hub::start().await;
    let digest = hub.put_blob("library/a", content(50_000));
    hub.put_blob("library/b", content(50_000));
    let larder = Options::mirror_of(&hub).start().await;
    assert_eq!(
        larder
            .get(&format!("/v2/library/a/blobs/{digest}"))
            .await
            .status,
        200
    );
    hub.clear_log();
    let path = format!("/v2/library/b/blobs/{digest}");
    let linked = larder.get(&path).await;
    assert_eq!((linked.status, linked.cache()), (200, "revalidated"));
    assert_eq!((hub.blob_heads(), hub.blob_gets()), (1, 0));
    assert_eq!(larder.get(&path).await.cache(), "hit");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_without_an_announced_length_is_served_and_kept() {
    let hub = Hub::start().await;
    let digest = hub.put_blob("library/x", content(200_000));
    hub.fault(Fault::on(Where::blobs().get()).does(What::NoLength));
    let larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/x/blobs/{digest}");
    let got = larder.get(&path).await;
    assert!(got.complete && got.body == content(200_000));
    assert_eq!(got.header("content-length"), "800000");
    assert_eq!(larder.get(&path).await.cache(), "hit");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_does_not_have_is_not_asked_for_again_at_once() {
    let hub = Hub::builder().bearer().start().await;
    let larder = Options::mirror_of(&hub).start().await;
    let digest = format!("sha256:{}", "0".repeat(64));
    for (what, code) in [
        (format!("blobs/{digest}"), "BLOB_UNKNOWN"),
        (format!("manifests/{digest}"), "MANIFEST_UNKNOWN"),
        ("manifests/1".to_owned(), "MANIFEST_UNKNOWN"),
    ] {
        let none = format!("/v2/library/none/{what}");
        let first = larder.get(&none).await;
        assert_eq!(
            (first.status, first.code().as_str(), first.cache()),
            (404, code, "miss")
        );
        hub.clear_log();
        for _ in 0..5 {
            assert_eq!(larder.get(&none).await.code(), code);
        }
        assert!(hub.asked().is_empty(), "{:?}", hub.asked());
    }
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_download_failed_is_not_fetched_again() {
    let hub = Hub::start().await;
    let digest = hub.put_blob("library/x", content(500_000));
    let limit: &[(&str, &str)] = &[("retry-after", "3600")];
    hub.fault(
        Fault::on(Where::blobs().get())
            .times(1)
            .does(What::TruncateAfter(1_200_000)),
    );
    hub.fault(Fault::on(Where::blobs().with_header("range")).does(What::Status(429, limit, "{}")));
    let mut larder = Options::mirror_of(&hub).start().await;
    let path = format!("/v2/library/x/blobs/{digest}");
    let failed = larder.get(&path).await;
    assert!(failed.status == 200 && !failed.complete);
    // Started again, it does not remember the limit.
    larder.kill().await;
    hub.heal_all();
    hub.clear_log();
    larder.start_again().await;
    let got = larder.get(&path).await;
    assert!(got.complete && got.body == content(500_000));
    let asked = hub.asked();
    let ranges: Vec<_> = asked.iter().map(|asked| asked.header("range")).collect();
    assert_eq!(ranges, [Some("bytes=1200000-")]);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_under_way_for_one_repository_answers_no_other() {
    let (hub, other) = (Hub::start().await, Hub::start().await);
    let larder = Options::mirror_of(&hub)
        .upstream("other.test", &other)
        .start()
        .await;
    let image = Image::random(9, &[50_000]);
    let manifest = hub.push("library/has", "1", &image);
    let layer = &image.layer_digests()[0];
    for (method, what, place) in [
        ("GET", format!("manifests/{manifest}"), Where::manifests()),
        ("HEAD", format!("blobs/{layer}"), Where::blobs()),
    ] {
        let gate = hub.fault(Fault::on(place).does(What::Gate(None)));
        let has = larder.request(method, &format!("/v2/library/has/{what}"));
        let none = async {
            hub.wait_for(|asked| asked.iter().any(|asked| asked.path.ends_with(&what)))
                .await;
            let path = format!("/v2/other.test/team/none/{what}");
            let none = larder.send(larder.request(method, &path)).await;
            hub.open(gate);
            none
        };
        let (has, none) = tokio::join!(larder.send(has), none);
        assert_eq!((has.status, none.status), (200, 404), "{method} {what}");
    }
    larder.finish().await;
}
