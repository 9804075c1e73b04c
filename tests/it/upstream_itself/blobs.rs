//! Blobs: every byte once, whatever breaks.

use std::time::{Duration, Instant};

use larder::upstream::UpstreamError;

use super::{blob, fetch, misbehaves, name, open, rest, upstream};
use crate::support::hub::{Fault, Hub, Kind, Listener, TokenShape, What, Where};

#[tokio::test]
async fn a_blob_is_resumed_whatever_breaks() {
    for cdn in [false, true] {
        let builder = Hub::builder().bearer();
        let hub = if cdn { builder.cdn() } else { builder }.start().await;
        let (bytes, digest) = blob(&hub);
        let upstream = upstream(&hub);
        for what in [
            What::TruncateAfter(100_000),
            What::ResetAfter(100_000),
            What::StallAfter(100_000),
            What::TruncateAfter(0),
            What::WrongLength(50),
        ] {
            hub.clear_log();
            hub.fault(Fault::on(Where::blobs()).does(what.clone()).times(2));
            let got = fetch(&upstream, &digest).await;
            if let What::WrongLength(_) = what {
                // The length was a lie from the beginning: no two answers agree.
                assert!(got.is_err());
            } else {
                assert!(got.as_ref() == Ok(&bytes), "{what:?}");
                let last = hub
                    .asked()
                    .into_iter()
                    .rfind(|asked| asked.kind == Kind::Blob)
                    .unwrap();
                assert_eq!(
                    last.header("range").is_some(),
                    !matches!(what, What::TruncateAfter(0))
                );
            }
            hub.heal_all();
        }
    }
}

#[tokio::test]
async fn what_a_resume_gets_must_fit() {
    let hub = Hub::start().await;
    let (bytes, digest) = blob(&hub);
    let upstream = upstream(&hub);
    let resumes = || Where::blobs().with_header("range");
    for what in [
        What::IgnoreRange,
        What::WrongContentRange,
        What::Html,
        What::Status(500, &[], ""),
        What::Status(429, &[("retry-after", "0")], ""),
        What::CloseBeforeAnswer,
        What::StallHeaders,
    ] {
        hub.fault(
            Fault::on(Where::blobs())
                .does(What::TruncateAfter(100_000))
                .times(1),
        );
        let fault = hub.fault(Fault::on(resumes()).does(what.clone()).times(1));
        assert!(
            fetch(&upstream, &digest).await.as_ref() == Ok(&bytes),
            "{what:?}"
        );
        assert_eq!(hub.struck(fault), 1, "{what:?}");
        hub.heal_all();
    }
    hub.fault(
        Fault::on(Where::blobs())
            .does(What::TruncateAfter(100_000))
            .times(1),
    );
    hub.fault(Fault::on(resumes()).does(What::Status(404, &[], "")));
    assert_eq!(
        fetch(&upstream, &digest).await,
        Err(UpstreamError::NotFound)
    );
    hub.heal_all();
    hub.fault(
        Fault::on(Where::blobs())
            .does(What::TruncateAfter(100_000))
            .times(1),
    );
    hub.fault(
        Fault::on(resumes())
            .does(What::IgnoreRange)
            .does(What::ExtraBytes(9)),
    );
    misbehaves(fetch(&upstream, &digest).await, "more bytes");
}

#[tokio::test]
async fn a_resume_asks_the_registry_and_not_where_it_sent_us_before() {
    let hub = Hub::builder().bearer().cdn().start().await;
    let (bytes, digest) = blob(&hub);
    let upstream = upstream(&hub);
    hub.fault(
        Fault::on(Where::blobs())
            .does(What::TruncateAfter(100_000))
            .times(3),
    );
    hub.token_shape(TokenShape {
        expires_in: Some(1),
        ..TokenShape::default()
    });
    let mut stream = open(&upstream, &digest, 0).await.unwrap();
    assert!(stream.next().await.unwrap().is_some());
    hub.revoke_tokens();
    let first = rest(&mut stream).await.unwrap();
    assert!(bytes.ends_with(&first), "the token was renewed");
    let queries: Vec<_> = hub
        .asked()
        .into_iter()
        .filter(|asked| asked.listener == Listener::Cdn)
        .map(|asked| asked.query.clone())
        .collect();
    let mut different = queries.clone();
    different.dedup();
    assert_eq!(
        (queries.len(), &queries),
        (4, &different),
        "a new signature each time"
    );

    // A signature that has run out by the time it is used.
    hub.fault(
        Fault::on(Where::blobs().at(Listener::Cdn))
            .does(What::Status(403, &[], "Request has expired"))
            .times(1),
    );
    assert_eq!(fetch(&upstream, &digest).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_blob_that_never_gets_further_is_given_up() {
    let hub = Hub::start().await;
    let (_, digest) = blob(&hub);
    let upstream = upstream(&hub);
    hub.fault(Fault::on(Where::blobs().with_header("range")).does(What::TruncateAfter(0)));
    hub.fault(Fault::on(Where::blobs()).does(What::TruncateAfter(70_000)));
    let mut stream = open(&upstream, &digest, 0).await.unwrap();
    let error = loop {
        match stream.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended"),
            Err(error) => break error,
        }
    };
    assert_eq!(stream.next().await, Err(error), "an error is for good");
    assert_eq!(hub.blob_gets(), 6);
}

#[tokio::test]
async fn a_slow_blob_is_not_a_broken_one() {
    let hub = Hub::start().await;
    let digest = hub.put_blob("a/b", vec![7; 40_000]).parse().unwrap();
    hub.fault(Fault::on(Where::blobs()).does(What::Rate(40_000)));
    let started = Instant::now();
    assert_eq!(fetch(&upstream(&hub), &digest).await.unwrap().len(), 40_000);
    assert!(
        started.elapsed() > Duration::from_millis(800),
        "longer than any deadline for an answer"
    );
    assert_eq!(hub.blob_gets(), 1);
}

#[tokio::test]
async fn a_blob_without_a_length_ends_with_its_last_chunk() {
    let hub = Hub::start().await;
    let (bytes, digest) = blob(&hub);
    let upstream = upstream(&hub);
    hub.fault(Fault::on(Where::blobs()).does(What::NoLength));
    let mut stream = open(&upstream, &digest, 0).await.unwrap();
    assert_eq!(stream.size(), None);
    assert_eq!(rest(&mut stream).await.unwrap(), bytes);
    hub.heal_all();
    hub.fault(
        Fault::on(Where::blobs())
            .does(What::NoLength)
            .does(What::TruncateAfter(100_000))
            .times(1),
    );
    let mut stream = open(&upstream, &digest, 0).await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), bytes);
    assert_eq!(stream.size(), Some(bytes.len() as u64), "the rest told it");
    // All bytes are there, the end is not: one more question settles it.
    hub.fault(
        Fault::on(Where::blobs())
            .does(What::NoLength)
            .does(What::ResetAfter(bytes.len()))
            .times(1),
    );
    assert_eq!(fetch(&upstream, &digest).await.unwrap(), bytes);
}

#[tokio::test]
async fn a_blob_can_be_begun_anywhere() {
    let hub = Hub::start().await;
    let (bytes, digest) = blob(&hub);
    let upstream = upstream(&hub);
    let size = bytes.len() as u64;
    for from in [0, 1, 100_000, size - 1, size] {
        for what in [None, Some(What::IgnoreRange)] {
            hub.heal_all();
            what.map(|what| hub.fault(Fault::on(Where::blobs()).does(what)));
            let mut stream = open(&upstream, &digest, from).await.unwrap();
            assert_eq!(stream.size(), Some(size));
            assert_eq!(
                rest(&mut stream).await.unwrap(),
                &bytes[usize::try_from(from).unwrap()..]
            );
        }
    }
    misbehaves(open(&upstream, &digest, size + 1).await, "ends before");
    for (what, about) in [(What::Html, "HTML"), (What::Gzip, "identity")] {
        hub.fault(Fault::on(Where::blobs()).does(what).times(1));
        misbehaves(open(&upstream, &digest, 0).await, about);
    }
}

#[tokio::test]
async fn the_size_of_a_blob_is_found_out_somehow() {
    let hub = Hub::builder().bearer().cdn().start().await;
    let (bytes, digest) = blob(&hub);
    let size = Ok(bytes.len() as u64);
    for what in [
        None,
        Some(What::Status(405, &[], "")),
        Some(What::Status(501, &[], "")),
        Some(What::Status(403, &[], "")),
        Some(What::Challenge(vec![r#"Bearer realm="x""#.to_owned()])),
    ] {
        let upstream = upstream(&hub);
        let refused = Where::blobs().head().with_header("authorization");
        what.map(|what| hub.fault(Fault::on(refused).does(what)));
        assert_eq!(upstream.blob_size(&name("a/b"), &digest).await, size);
        assert_eq!(upstream.blob_size(&name("a/b"), &digest).await, size);
        hub.heal_all();
    }
    hub.fault(Fault::on(Where::blobs().head().at(Listener::Cdn)).does(What::Status(403, &[], "")));
    hub.clear_log();
    let upstream = upstream(&hub);
    for _ in 0..3 {
        assert_eq!(upstream.blob_size(&name("a/b"), &digest).await, size);
    }
    assert!(
        hub.blob_heads() <= 2,
        "who refuses once is not asked again: {:#?}",
        hub.asked()
    );
    let nothing = hub.put_blob("a/b", Vec::new()).parse().unwrap();
    assert_eq!(upstream.blob_size(&name("a/b"), &nothing).await, Ok(0));
    assert_eq!(fetch(&upstream, &nothing).await, Ok(Vec::new()));
}
