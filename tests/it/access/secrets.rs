//! A blob that somebody may not have: nothing says whether it exists.

use std::time::{Duration, Instant};

use super::{Identity, USERS, protected, rules};
use crate::support::image::sha256;
use crate::support::programs::{Htpasswd, Larder, Options};

async fn with_a_secret() -> (Larder, Htpasswd, String) {
    let users = Htpasswd::new(&USERS);
    let options = protected(Options::registry(), &users, &[("rules", rules())]);
    let larder = options.start().await;
    let secret = sha256(b"the team's secret");
    let path = format!("/v2/team/app/blobs/uploads/?digest={secret}");
    let push = Identity::Anna.request(&larder, "POST", &path);
    let push = larder.send(push.body("the team's secret")).await;
    assert_eq!(push.status, 201);
    (larder, users, secret)
}

async fn cancelled(larder: &Larder, location: &str) {
    let cancel = Identity::Bob.request(larder, "DELETE", location);
    assert_eq!(larder.send(cancel).await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_does_not_take_what_its_asker_may_not_pull() {
    let (larder, _users, secret) = with_a_secret().await;
    let missing = sha256(b"nobody has this");
    for digest in [&secret, &missing] {
        for from in ["&from=team/app", "", "&from=nobody/none", "&from=UPPER"] {
            let path = format!("/v2/bob/app/blobs/uploads/?mount={digest}{from}");
            let answer = larder
                .send(Identity::Bob.request(&larder, "POST", &path))
                .await;
            assert_eq!(answer.status, 202, "{path}: {answer:?}");
            cancelled(&larder, answer.header("location")).await;
            let got = Identity::Bob
                .get(&larder, &format!("/v2/bob/app/blobs/{digest}"))
                .await;
            assert_eq!(got.status, 404, "{path}");
        }
        // A manifest that names it is no way to it either.
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/x", "digest": digest, "size": 17 },
            "layers": [],
        });
        let put = Identity::Bob
            .request(&larder, "PUT", "/v2/bob/app/manifests/1")
            .header("content-type", "application/vnd.oci.image.manifest.v1+json");
        let put = larder.send(put.body(manifest.to_string())).await;
        assert_eq!(
            (put.status, put.code().as_str()),
            (400, "MANIFEST_BLOB_UNKNOWN")
        );
    }
    // Anna, who may pull it, mounts it.
    let path = format!("/v2/team/other/blobs/uploads/?mount={secret}&from=team/app");
    let mounted = larder
        .send(Identity::Anna.request(&larder, "POST", &path))
        .await;
    assert_eq!(mounted.status, 201, "{mounted:?}");
    larder.finish().await;
}

/// How many times longer the middle answer takes for the one digest than for the other.
async fn ratio(larder: &Larder, method: &str, path: &str, digests: [&str; 2]) -> f64 {
    let mut times: [Vec<Duration>; 2] = Default::default();
    for _ in 0..100 {
        // In turns, so that whatever else the machine does weighs on both.
        for (digest, times) in digests.into_iter().zip(&mut times) {
            let request = Identity::Bob.request(larder, method, &path.replace("DIGEST", digest));
            let started = Instant::now();
            let answer = larder.send(request).await;
            times.push(started.elapsed());
            if answer.status == 202 {
                cancelled(larder, answer.header("location")).await;
            }
        }
    }
    let [one, other] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64()
    });
    one / other
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answers_time_tells_whether_a_blob_exists_elsewhere() {
    let (larder, _users, secret) = with_a_secret().await;
    let missing = sha256(b"nobody has this");
    let requests: [(&str, &str); 3] = [
        ("HEAD", "/v2/bob/app/blobs/DIGEST"),
        ("HEAD", "/v2/team/app/blobs/DIGEST"),
        (
            "POST",
            "/v2/bob/app/blobs/uploads/?mount=DIGEST&from=team/app",
        ),
    ];
    for (method, path) in requests {
        // A machine that does other things too may fall out of step once, but not each time.
        let mut ratios = Vec::new();
        while !ratios
            .last()
            .is_some_and(|ratio| (0.7..1.43).contains(ratio))
        {
            assert!(ratios.len() < 10, "{method} {path}: {ratios:?}");
            ratios.push(ratio(&larder, method, path, [&secret, &missing]).await);
        }
    }
    larder.finish().await;
}
