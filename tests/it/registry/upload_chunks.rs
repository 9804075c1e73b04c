//! Uploads in pieces: put together in order, by one writer at a time.

use bytes::Bytes;
use futures_util::future::join_all;

use super::{assert_refused, blob, cancel_upload, chunk, close_upload, id_of, open_upload, patch};
use crate::support::image::sha256;
use crate::support::programs::Options;

#[tokio::test]
async fn a_stream_of_unknown_length_is_taken() {
    let larder = Options::registry().start().await;
    let pieces: Vec<Bytes> = (0..200_u8).map(|n| vec![n; 5000].into()).collect();
    let whole = pieces.concat();
    let location = open_upload(&larder, "a").await;
    let stream = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
    let request = larder
        .request("PATCH", &location)
        .body(reqwest::Body::wrap_stream(stream));
    let sent = larder.send(request).await;
    assert_eq!((sent.status, sent.header("range")), (202, "0-999999"));
    let digest = sha256(&whole);
    let closed = close_upload(&larder, sent.header("location"), &digest, b"").await;
    assert_eq!(closed.status, 201, "{closed:?}");
    assert_eq!(blob(&larder, "a", &digest).await, whole);
    larder.finish().await;
}

#[tokio::test]
async fn chunks_are_put_together_whichever_way_their_range_is_spelled() {
    let larder = Options::registry().start().await;
    let whole: Vec<u8> = (0..5000_u32).map(|n| (n % 251) as u8).collect();
    let mut location = open_upload(&larder, "a").await;
    for (range, bytes, reached) in [
        ("0-999", &whole[..1000], "0-999"),
        ("bytes 1000-1999/*", &whole[1000..2000], "0-1999"),
        ("bytes 2000-2999/5000", &whole[2000..3000], "0-2999"),
    ] {
        let sent = chunk(&larder, &location, range, bytes).await;
        assert_eq!(
            (sent.status, sent.header("range")),
            (202, reached),
            "{range}: {sent:?}"
        );
        sent.header("location").clone_into(&mut location);
    }
    let sent = patch(&larder, &location, &whole[3000..4000]).await;
    assert_eq!((sent.status, sent.header("range")), (202, "0-3999"));
    let digest = sha256(&whole);
    let last = format!("{}&digest={digest}", sent.header("location"));
    let last = larder
        .request("PUT", &last)
        .header("content-range", "4000-4999");
    let closed = larder.send(last.body(whole[4000..].to_vec())).await;
    assert_eq!(closed.status, 201, "{closed:?}");
    assert_eq!(blob(&larder, "a", &digest).await, whole);
    larder.finish().await;
}

#[tokio::test]
async fn a_chunk_out_of_order_is_refused_and_the_session_goes_on() {
    let larder = Options::registry().start().await;
    let whole = b"0123456789".repeat(100);
    let digest = sha256(&whole);
    let first = open_upload(&larder, "a").await;
    // Before the first byte: a chunk from further on.
    let early = chunk(&larder, &first, "300-599", &whole[300..600]).await;
    assert_refused(&early, 416, "RANGE_INVALID");
    let sent = chunk(&larder, early.header("location"), "0-299", &whole[..300]).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    let fresh = sent.header("location").to_owned();
    // The same again, one from further on, one whose Location is stale, and closing requests
    // that do not fit. None of them may harm the session.
    let closing = |location: &str, range: &str, bytes: &[u8]| {
        let request = larder.request("PUT", &format!("{location}&digest={digest}"));
        larder.send(request.header("content-range", range).body(bytes.to_vec()))
    };
    for refused in [
        chunk(&larder, &fresh, "0-299", &whole[..300]).await,
        chunk(&larder, &fresh, "600-999", &whole[600..]).await,
        chunk(&larder, &fresh, "299-598", &whole[299..599]).await,
        patch(&larder, &first, &whole[..300]).await,
        closing(&fresh, "600-999", &whole[600..]).await,
        closing(&fresh, "0-999", &whole).await,
        close_upload(&larder, &first, &digest, &whole).await,
    ] {
        assert_refused(&refused, 416, "RANGE_INVALID");
        assert_eq!(refused.header("range"), "0-299");
        let status = larder.get(refused.header("location")).await;
        assert_eq!((status.status, status.header("range")), (204, "0-299"));
    }
    // Where a range is none at all, or none that there can be.
    for range in [
        "1-0",
        "x",
        "",
        "-5",
        "0-",
        "300",
        "+300-599",
        "0-18446744073709551616",
    ] {
        let refused = chunk(&larder, &fresh, range, b"x").await;
        assert_refused(&refused, 416, "RANGE_INVALID");
    }
    let sent = chunk(&larder, &fresh, "300-599", &whole[300..600]).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    let closed = closing(sent.header("location"), "600-999", &whole[600..]).await;
    assert_eq!(closed.status, 201, "{closed:?}");
    assert_eq!(blob(&larder, "a", &digest).await, whole);
    larder.finish().await;
}

#[tokio::test]
async fn a_length_that_is_not_its_ranges_is_refused_and_the_session_kept() {
    let larder = Options::registry().start().await;
    let location = open_upload(&larder, "a").await;
    for range in ["0-2", "0-1000", "0-18446744073709551615"] {
        let refused = chunk(&larder, &location, range, b"four").await;
        assert_refused(&refused, 400, "SIZE_INVALID");
    }
    let closed = close_upload(&larder, &location, &sha256(b"four"), b"four").await;
    assert_eq!(closed.status, 201, "{closed:?}");
    larder.finish().await;
}

#[tokio::test]
async fn a_session_says_how_far_it_is_until_it_is_cancelled() {
    let larder = Options::registry().start().await;
    let location = open_upload(&larder, "a").await;
    let sent = patch(&larder, &location, b"some bytes").await;
    for status in [
        larder.get(&location).await,
        larder.head(&location).await,
        larder.get(sent.header("location")).await,
    ] {
        assert_eq!((status.status, status.header("range")), (204, "0-9"));
        assert_eq!(status.header("docker-upload-uuid"), id_of(&location));
        assert_eq!(status.header("location"), sent.header("location"));
    }
    let cancelled = cancel_upload(&larder, &location).await;
    assert_eq!(cancelled.status, 204, "{cancelled:?}");
    assert_eq!(cancelled.header("docker-upload-uuid"), id_of(&location));
    for gone in [
        larder.get(&location).await,
        patch(&larder, sent.header("location"), b"more").await,
        close_upload(&larder, &location, &sha256(b"some bytes"), b"").await,
        cancel_upload(&larder, &location).await,
    ] {
        assert_refused(&gone, 404, "BLOB_UPLOAD_UNKNOWN");
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_session_belongs_to_its_repository_and_ids_are_ids() {
    let larder = Options::registry().start().await;
    let location = open_upload(&larder, "mine").await;
    let id = id_of(&location).to_owned();
    for (name, id) in [
        ("other", id.clone()),
        ("mine/too", id.clone()),
        ("mine", id.to_uppercase()),
        ("mine", id.replace('-', "")),
        ("mine", format!("{{{id}}}")),
        ("mine", "x".repeat(300)),
        ("mine", "00000000-0000-0000-0000-000000000000".to_owned()),
        ("mine", "a%00b".to_owned()),
    ] {
        let path = format!("/v2/{name}/blobs/uploads/{id}");
        for method in ["GET", "PATCH", "DELETE"] {
            let answer = larder.send(larder.request(method, &path)).await;
            assert_refused(&answer, 404, "BLOB_UPLOAD_UNKNOWN");
        }
        let put = format!("{path}?digest={}", sha256(b""));
        let answer = larder.send(larder.request("PUT", &put)).await;
        assert_refused(&answer, 404, "BLOB_UPLOAD_UNKNOWN");
    }
    assert_eq!(cancel_upload(&larder, &location).await.status, 204);
    larder.finish().await;
}

#[tokio::test]
async fn of_many_chunks_for_one_place_exactly_one_is_taken() {
    let larder = Options::registry().start().await;
    for _ in 0..5 {
        let location = open_upload(&larder, "a").await;
        let chunks: Vec<Vec<u8>> = (0..8_u8).map(|n| vec![n; 300_000]).collect();
        let range = "0-299999";
        let sent = chunks
            .iter()
            .map(|bytes| chunk(&larder, &location, range, bytes));
        let sent = join_all(sent).await;
        let taken: Vec<usize> = (0..8).filter(|at| sent[*at].status == 202).collect();
        let refused = sent.iter().filter(|answer| answer.status == 416).count();
        assert_eq!((taken.len(), refused), (1, 7), "{sent:?}");
        let (winner, location) = (&chunks[taken[0]], sent[taken[0]].header("location"));
        let digest = sha256(winner);
        let closed = close_upload(&larder, location, &digest, b"").await;
        assert_eq!(closed.status, 201, "{closed:?}");
        assert_eq!(blob(&larder, "a", &digest).await, *winner);
    }
    larder.finish().await;
}

#[tokio::test]
async fn a_cancel_while_chunks_arrive_leaves_nothing() {
    let larder = Options::registry().start().await;
    for _ in 0..30 {
        let location = open_upload(&larder, "a").await;
        let chunks = (0..4).map(|_| patch(&larder, &location, b"some bytes"));
        let (cancelled, sent) = tokio::join!(cancel_upload(&larder, &location), join_all(chunks));
        assert_eq!(cancelled.status, 204, "{cancelled:?}");
        for answer in sent {
            assert!([202, 404, 416].contains(&answer.status), "{answer:?}");
        }
        assert_refused(&larder.get(&location).await, 404, "BLOB_UPLOAD_UNKNOWN");
    }
    // Which also looks for what an upload may have left.
    larder.finish().await;
}
