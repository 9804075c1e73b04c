//! Upstreams that do what they should not: an honest error, nothing stored, nobody else disturbed,
//! and the next request works once the upstream does.

use crate::support::hub::{Fault, Hub, What, Where};
use crate::support::image::Image;
use crate::support::programs::{Larder, Options};
use crate::support::tree::files;

fn resident(larder: &Larder) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", larder.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_had_is_an_honest_error_and_the_next_one_works() {
    let hub = Hub::start().await;
    let image = Image::random(1, &[3000]);
    let child = Image::random(2, &[3000]);
    hub.push("library/x", "1", &image);
    let digest = hub.push("library/x", "2", &child);
    let larder = Options::mirror_of(&hub).start().await;
    for (what, statuses) in [
        (What::Status(500, &[], "no"), &[502][..]),
        (What::Status(503, &[], "no"), &[502]),
        (What::Html, &[502]),
        (What::Endless, &[502]),
        (What::RedirectLoop, &[502]),
        (What::Redirect(307, "file:///etc/passwd".into()), &[502]),
        (
            What::Redirect(302, "http://169.254.169.254/latest/".into()),
            &[502, 504],
        ),
        (What::FlipBit(4), &[502]),
        (What::Gzip, &[502]),
        (What::CloseBeforeAnswer, &[502]),
        (
            What::Body(b"{\"manifests\":[],\"layers\":[]}".to_vec()),
            &[502],
        ),
        (What::Body(Vec::new()), &[502]),
        (What::WrongLength(7), &[502]),
    ] {
        for reference in ["1", &digest] {
            let path = format!("/v2/library/x/manifests/{reference}");
            let fault = hub.fault(Fault::on(Where::manifests()).does(what.clone()));
            let got = larder.get(&path).await;
            let honest = statuses.contains(&got.status);
            assert!(
                honest,
                "{what:?} for {reference}: {got:?}\n{}",
                larder.log()
            );
            assert_eq!(got.code(), "UNAVAILABLE");
            let message = got.json()["errors"][0]["message"]
                .as_str()
                .unwrap()
                .to_owned();
            assert!(
                message.contains("docker.io") && message.contains("request "),
                "{message}"
            );
            assert!(
                files(&larder.tree()).is_empty(),
                "{what:?} for {reference} was stored"
            );
            hub.heal(fault);
        }
    }
    // By tag, the header and the bytes must agree; by digest, the bytes alone prove themselves.
    let lie = hub.fault(Fault::on(Where::manifests()).does(What::WrongDigestHeader));
    assert_eq!(larder.get("/v2/library/x/manifests/1").await.status, 502);
    hub.heal(lie);
    assert!(resident(&larder) < 64 << 20, "{} bytes", resident(&larder));
    assert_eq!(
        larder.get("/v2/library/x/manifests/1").await.body,
        image.manifest_bytes()
    );
    let by_digest = larder
        .get(&format!("/v2/library/x/manifests/{digest}"))
        .await;
    assert_eq!(by_digest.body, child.manifest_bytes());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_away_or_silent_is_told_apart_from_one_that_has_nothing() {
    let hub = Hub::start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let blob = format!(
        "/v2/library/x/blobs/{}",
        Image::random(1, &[3000]).config_digest()
    );
    let mut larder = Options::mirror_of(&hub).start().await;
    assert_eq!(larder.get("/v2/library/x/manifests/none").await.status, 404);
    hub.down().await;
    let away = larder.get("/v2/library/x/manifests/1").await;
    assert_eq!((away.status, away.code().as_str()), (502, "UNAVAILABLE"));
    // A blob is answered so that dockerd goes on at once instead of retrying for 75 seconds.
    let blob_away = larder.get(&blob).await;
    assert_eq!(
        (blob_away.status, blob_away.code().as_str()),
        (404, "BLOB_UNKNOWN")
    );
    hub.up().await;
    larder.hang_up().await;
    let stall = hub.fault(Fault::on(Where::manifests()).does(What::StallHeaders));
    let silent = larder.get("/v2/library/x/manifests/1").await;
    assert_eq!(
        (silent.status, silent.code().as_str()),
        (504, "UNAVAILABLE")
    );
    hub.heal(stall);
    larder.hang_up().await;
    assert_eq!(larder.get("/v2/library/x/manifests/1").await.status, 200);
    assert_eq!(larder.get(&blob).await.status, 200);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_cannot_be_had_is_cut_or_refused_and_the_next_one_works() {
    let hub = Hub::start().await;
    let larder = Options::mirror_of(&hub).start().await;
    let large: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for (number, what) in [
        What::Html,
        What::Status(500, &[], "no"),
        What::Status(403, &[], ""),
        What::RedirectLoop,
        What::Redirect(301, "http://169.254.169.254/x".into()),
        What::Gzip,
        What::FlipBit(700_000),
        What::ExtraBytes(10),
        What::WrongLength(-10),
        What::WrongLength(10),
        What::CloseBeforeAnswer,
        What::TruncateAfter(0),
        What::Body(Vec::new()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut content = large.clone();
        content[0] = u8::try_from(number).unwrap();
        let digest = hub.put_blob("library/x", content.clone());
        let path = format!("/v2/library/x/blobs/{digest}");
        let fault = hub.fault(Fault::on(Where::blobs().get().digest(&digest)).does(what.clone()));
        let started = std::time::Instant::now();
        let got = larder.get(&path).await;
        let refused = [404, 502].contains(&got.status) || !got.complete;
        assert!(
            refused,
            "{what:?}: {} of {} bytes\n{}",
            got.status,
            got.body.len(),
            larder.log()
        );
        assert!(started.elapsed().as_secs() < 60, "{what:?}");
        hub.heal(fault);
        // A plain "no" is believed for ten seconds; everything else works as soon as it does.
        if !matches!(what, What::Status(403, ..)) {
            let got = larder.get(&path).await;
            assert!(
                got.complete && got.body == content,
                "{what:?}\n{}",
                larder.log()
            );
        }
    }
    assert!(resident(&larder) < 64 << 20, "{} bytes", resident(&larder));
    larder.finish_with_parts().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_upstream_takes_nobody_elses_time() {
    let (hub, other) = (Hub::start().await, Hub::start().await);
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    other.push("library/y", "1", &Image::random(2, &[3000]));
    hub.fault(Fault::on(Where::anything()).does(What::StallHeaders));
    let larder = Options::mirror_of(&hub)
        .upstream("other.test", &other)
        .start()
        .await;
    let stalled: Vec<_> = (0..50)
        .map(|_| larder.request("GET", "/v2/library/x/manifests/1").send())
        .collect();
    let stalled = futures_util::future::join_all(stalled);
    let fine = async {
        hub.wait_for(|asked| !asked.is_empty()).await;
        let started = std::time::Instant::now();
        assert_eq!(
            larder
                .get("/v2/other.test/library/y/manifests/1")
                .await
                .status,
            200
        );
        assert!(started.elapsed().as_secs() < 2);
        assert_eq!(hub.asked().len(), 1, "fifty clients are one question");
        hub.down().await;
    };
    let (answers, ()) = tokio::join!(stalled, fine);
    assert!(
        answers
            .into_iter()
            .all(|answer| answer.unwrap().status().is_server_error())
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_passed_on_small_and_not_hammered() {
    let hub = Hub::start().await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let limit: &[(&str, &str)] = &[("retry-after", "3600")];
    hub.fault(Fault::on(Where::manifests()).does(What::Status(429, limit, "{}")));
    let larder = Options::mirror_of(&hub).start().await;
    for _ in 0..10 {
        let got = larder.get("/v2/library/x/manifests/1").await;
        assert_eq!((got.status, got.code().as_str()), (429, "TOOMANYREQUESTS"));
        assert_eq!(
            got.header("retry-after"),
            "10",
            "clients sleep for as long as they are told"
        );
    }
    assert_eq!(hub.asked().len(), 1, "{:?}", hub.asked());
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_is_said_once_and_public_images_go_on() {
    let hub = Hub::builder()
        .bearer()
        .credentials("me", "right")
        .start()
        .await;
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let larder = Options::mirror_of(&hub)
        .login("docker.io", "me", "wr0ng-canary")
        .start()
        .await;
    for tag in ["1", "2", "3"] {
        larder.get(&format!("/v2/library/x/manifests/{tag}")).await;
    }
    assert_eq!(larder.get("/v2/library/x/manifests/1").await.status, 200);
    let with_password = |asked: &crate::support::hub::Asked| {
        asked
            .header("authorization")
            .is_some_and(|value| value.starts_with("Basic"))
    };
    assert_eq!(
        hub.count(with_password),
        1,
        "a wrong password locks accounts: {:?}",
        hub.asked()
    );
    let log = larder.log();
    assert!(
        log.contains("check") && log.contains("password") && !log.contains("wr0ng-canary"),
        "{log}"
    );
    larder.finish().await;
}
