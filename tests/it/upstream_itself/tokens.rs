//! Tokens: fetched once, renewed in time, from services that fail.

use std::time::{Duration, Instant};

use larder::upstream::UpstreamError;

use super::{MANIFEST, TYPE, get, manifest, manifests, name, statuses, tag, upstream};
use crate::support::hub::{Fault, Hub, Kind, TokenShape, What, Where};
use crate::support::until::until;

#[tokio::test]
async fn a_token_is_fetched_once_however_many_wait() {
    let hub = Hub::builder().bearer().start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    let all = futures_util::future::join_all((0..30).map(|_| get(&upstream))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(hub.token_requests(), 1);
    let token = hub
        .asked()
        .into_iter()
        .find(|asked| asked.kind == Kind::Token)
        .unwrap();
    assert_eq!(
        token.parameter("scope").as_deref(),
        Some("repository:a/b:pull")
    );
    assert_eq!(token.parameter("service").as_deref(), Some("hub.test"));

    // The next repository has a token of its own, and nobody has to be turned away for it.
    hub.put_manifest("c/d", Some("latest"), TYPE, MANIFEST);
    hub.clear_log();
    assert!(
        upstream
            .get_manifest(&name("c/d"), &tag("latest"))
            .await
            .is_ok()
    );
    assert_eq!((hub.token_requests(), hub.manifest_gets()), (1, 1));
}

#[tokio::test]
async fn tokens_of_all_shapes_are_understood_and_renewed_in_time() {
    for (token, access_token) in [(true, false), (false, true), (true, true)] {
        let hub = Hub::builder().bearer().start().await;
        manifest(&hub);
        hub.token_shape(TokenShape {
            token,
            access_token,
            expires_in: None,
        });
        let upstream = upstream(&hub);
        assert!(get(&upstream).await.is_ok() && get(&upstream).await.is_ok());
        assert_eq!(hub.token_requests(), 1);
    }
    let hub = Hub::builder().bearer().start().await;
    manifest(&hub);
    hub.token_shape(TokenShape {
        expires_in: Some(1),
        ..TokenShape::default()
    });
    let upstream = upstream(&hub);
    until("two tokens are used up", async || {
        assert!(get(&upstream).await.is_ok());
        hub.token_requests() > 2
    })
    .await;
    let statuses = statuses(&hub, Kind::Manifest);
    let (challenged, all) = statuses.split_first().unwrap();
    assert_eq!(*challenged, 401);
    assert!(
        all.iter().all(|status| *status == 200),
        "renewed before it expires: {all:?}"
    );
}

#[tokio::test]
async fn a_revoked_token_is_replaced_without_a_word() {
    let hub = Hub::builder().bearer().start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    assert!(get(&upstream).await.is_ok());
    hub.revoke_tokens();
    hub.clear_log();
    let all = futures_util::future::join_all((0..10).map(|_| get(&upstream))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(
        hub.token_requests(),
        1,
        "one drops the old token, nobody drops the new one"
    );
}

#[tokio::test]
async fn after_a_token_has_expired_the_challenge_is_asked_for_anew() {
    // nvcr.io: with an expired token the challenge names a realm that refuses anonymous readers.
    let hub = Hub::builder().bearer().start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    assert!(get(&upstream).await.is_ok());
    hub.revoke_tokens();
    hub.clear_log();
    let other = r#"Bearer realm="http://127.0.0.1:1/token",service="x""#.to_owned();
    hub.fault(
        Fault::on(manifests().with_header("authorization"))
            .does(What::Challenge(vec![other]))
            .times(1),
    );
    assert!(get(&upstream).await.is_ok());
    let authorized: Vec<_> = hub
        .asked()
        .iter()
        .filter(|it| it.kind == Kind::Manifest)
        .map(|it| it.header("authorization").is_some())
        .collect();
    assert_eq!(authorized, [true, false, true]);
}

#[tokio::test]
async fn a_loop_of_challenges_ends() {
    let hub = Hub::builder().bearer().start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    let challenge = format!(
        r#"Bearer realm="http://{}/token",service="hub.test""#,
        hub.token_host()
    );
    hub.fault(Fault::on(manifests()).does(What::Challenge(vec![challenge])));
    for (requests, tokens) in [(2, 1), (3, 2)] {
        hub.clear_log();
        assert_eq!(get(&upstream).await, Err(UpstreamError::Denied));
        assert_eq!(
            (hub.manifest_gets(), hub.token_requests()),
            (requests, tokens)
        );
    }
    hub.heal_all();
    assert!(get(&upstream).await.is_ok());
}

#[tokio::test]
async fn a_challenge_may_only_be_had_at_the_api_s_root() {
    let hub = Hub::builder().bearer().start().await;
    manifest(&hub);
    hub.fault(
        Fault::on(manifests())
            .does(What::Challenge(vec![]))
            .times(1),
    );
    assert!(get(&upstream(&hub)).await.is_ok());
}

#[tokio::test]
async fn a_token_service_may_fail_in_every_way() {
    let hub = Hub::builder().bearer().start().await;
    manifest(&hub);
    let upstream = upstream(&hub);
    hub.fault(
        Fault::on(Where::tokens())
            .does(What::Status(500, &[], ""))
            .times(2),
    );
    assert!(get(&upstream).await.is_ok(), "a hiccup");
    for (what, expected) in [
        (
            What::Status(500, &[], ""),
            Some(UpstreamError::Failed { status: 500 }),
        ),
        (What::Status(403, &[], ""), Some(UpstreamError::Denied)),
        (What::Status(401, &[], ""), Some(UpstreamError::Denied)),
        (
            What::Status(404, &[], ""),
            Some(UpstreamError::Failed { status: 404 }),
        ),
        (What::StallHeaders, None),
        (What::StallAfter(3), None),
        (What::Html, None),
        (What::Body(b"{".to_vec()), None),
        (What::Body(b"{}".to_vec()), None),
        (What::Body(vec![b' '; 70_000]), None),
    ] {
        hub.revoke_tokens();
        let fault = hub.fault(Fault::on(Where::tokens()).does(what.clone()));
        let started = Instant::now();
        let error = get(&upstream).await.unwrap_err();
        match expected {
            Some(expected) => assert_eq!(error, expected),
            None => assert!(
                !matches!(error, UpstreamError::NotFound | UpstreamError::Denied),
                "{what:?}: {error}"
            ),
        }
        assert!(started.elapsed() < Duration::from_millis(1500), "{what:?}");
        hub.heal(fault);
        assert!(
            get(&upstream).await.is_ok(),
            "{what:?}: nothing of it is remembered"
        );
    }
    hub.revoke_tokens();
    hub.fault(Fault::on(Where::tokens()).does(What::Status(429, &[("retry-after", "60")], "")));
    for _ in 0..5 {
        assert!(matches!(
            get(&upstream).await,
            Err(UpstreamError::RateLimited { .. })
        ));
    }
    assert_eq!(
        statuses(&hub, Kind::Token)
            .iter()
            .filter(|status| **status == 429)
            .count(),
        1
    );
}
