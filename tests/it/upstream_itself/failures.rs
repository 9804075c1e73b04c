//! Failures, deadlines, retries and rate limits.

use std::time::{Duration, Instant};

use larder::upstream::{Settings, UpstreamError};

use super::{MANIFEST, blob, fetch, get, manifest, manifests, name, settings, tag, upstream, with};
use crate::support::hub::{Fault, Hub, What};

#[tokio::test]
async fn an_upstream_that_is_down_is_noticed_at_once() {
    let hub = Hub::start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    hub.down().await;
    let started = Instant::now();
    let down = get(&upstream).await;
    assert!(
        matches!(&down, Err(UpstreamError::Unreachable { reason }) if reason.contains("refused")),
        "{down:?}"
    );
    assert!(started.elapsed() < Duration::from_millis(300));
    hub.up().await;
    assert_eq!(get(&upstream).await, down, "nobody asks again at once");
    upstream.ask_again();
    assert!(get(&upstream).await.is_ok());
    let nowhere = "http://nowhere.invalid".parse().unwrap();
    let nowhere = with(Settings {
        url: nowhere,
        ..settings(&hub)
    });
    assert!(matches!(
        get(&nowhere).await,
        Err(UpstreamError::Unreachable { .. } | UpstreamError::Timeout { .. })
    ));
}

#[tokio::test]
async fn headers_have_a_deadline_and_other_requests_do_not_wait() {
    let hub = Hub::start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    for what in [
        What::StallHeaders,
        What::HeadersByteByByte(Duration::from_millis(50)),
    ] {
        hub.fault(Fault::on(manifests().head()).does(what));
        let started = Instant::now();
        let reference = tag("latest");
        let repository = name("a/b");
        let (stalled, other) =
            tokio::join!(upstream.head_manifest(&repository, &reference), async {
                let result = get(&upstream).await;
                (result, started.elapsed())
            });
        assert!(
            matches!(stalled, Err(UpstreamError::Timeout { .. })),
            "{stalled:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(1));
        assert!(
            other.0.is_ok() && other.1 < Duration::from_millis(300),
            "{other:?}"
        );
        hub.heal_all();
    }
    assert!(get(&upstream).await.is_ok());
}

#[tokio::test]
async fn a_burst_of_failures_is_survived() {
    let hub = Hub::start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    for what in [
        What::Status(500, &[], ""),
        What::Status(502, &[], ""),
        What::Status(503, &[], "<html>"),
        What::Status(504, &[], ""),
        What::CloseBeforeAnswer,
    ] {
        hub.clear_log();
        hub.fault(Fault::on(manifests()).does(what).times(2));
        assert_eq!(get(&upstream).await.unwrap(), MANIFEST.as_bytes());
        assert_eq!(hub.manifest_gets(), 3);
    }
    hub.clear_log();
    let fault = hub.fault(Fault::on(manifests()).does(What::Status(503, &[], "")));
    assert_eq!(
        get(&upstream).await,
        Err(UpstreamError::Failed { status: 503 })
    );
    assert_eq!(hub.manifest_gets(), 3);
    hub.heal(fault);
    hub.fault(Fault::on(manifests()).does(What::CloseBeforeAnswer));
    assert!(matches!(
        get(&upstream).await,
        Err(UpstreamError::Unreachable { .. })
    ));
    hub.heal_all();
    hub.clear_log();
    hub.fault(Fault::on(manifests()).does(What::Status(418, &[], "")));
    assert_eq!(
        get(&upstream).await,
        Err(UpstreamError::Failed { status: 418 })
    );
    assert_eq!(
        hub.manifest_gets(),
        1,
        "what is no hiccup is not tried again"
    );
}

#[tokio::test]
async fn a_rate_limit_is_kept_to_without_a_storm() {
    let hub = Hub::start().await;
    manifest(&hub);
    let (_, digest) = blob(&hub);
    let upstream = upstream(&hub);
    hub.fault(
        Fault::on(manifests())
            .does(What::Status(429, &[("retry-after", "1")], ""))
            .times(1),
    );
    let started = Instant::now();
    assert!(get(&upstream).await.is_ok(), "a short wait is no error");
    assert!(started.elapsed() >= Duration::from_secs(1));

    hub.clear_log();
    hub.fault(Fault::on(manifests()).does(What::Status(
        429,
        &[("retry-after", "3600")],
        "Too Many Requests",
    )));
    let limited = |result| match result {
        Err(UpstreamError::RateLimited { retry_after }) => retry_after,
        other => panic!("not limited: {other:?}"),
    };
    assert_eq!(limited(get(&upstream).await), Duration::from_hours(1));
    for _ in 0..20 {
        let left = limited(get(&upstream).await);
        assert!(left > Duration::from_secs(3590) && left < Duration::from_hours(1));
    }
    assert_eq!(hub.manifest_gets(), 1);
    assert!(
        fetch(&upstream, &digest).await.is_ok(),
        "the limit is on pulls, not on blobs"
    );
    let other = super::upstream(&hub);
    hub.heal_all();
    hub.fault(
        Fault::on(manifests())
            .does(What::Status(429, &[], ""))
            .times(1),
    );
    assert_eq!(limited(get(&other).await), Duration::from_secs(5));
}
