//! Requests that no client should send, byte by byte: an answer to each or a closed connection,
//! never two answers to one, and larder lives.

use super::push_small;
use super::raw::Raw;
use crate::support::authority::{Authority, Pair};
use crate::support::image::sha256;
use crate::support::programs::{Larder, Options};

/// The statuses that come on one connection for these bytes, after which the client says no more.
async fn statuses(larder: &Larder, bytes: impl AsRef<[u8]>) -> Vec<u16> {
    let mut raw = Raw::to(larder).await;
    if raw.try_send(bytes).await {
        raw.half_close().await;
    }
    let answers = raw.answers().await;
    for answer in &answers {
        let body = String::from_utf8_lossy(&answer.body);
        assert!(!body.contains("/tmp"), "{body}");
    }
    answers.iter().map(|answer| answer.status).collect()
}

/// What is sent, and the statuses that may come of it, none of them if the list is empty.
const ODD: [(&str, &[u16]); 41] = [
    // Two lengths, or a length and a coding: who is in front may see another end than larder.
    (
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        &[400],
    ),
    (
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 5\r\n\r\nabcde",
        &[400],
    ),
    (
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "POST /v2/ HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &[400],
    ),
    (
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        &[400],
    ),
    (
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nabcde",
        &[400],
    ),
    (
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nabcde",
        &[400],
    ),
    (
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5 5\r\n\r\nabcde",
        &[400],
    ),
    (
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n",
        &[400],
    ),
    (
        "POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        &[400],
    ),
    // Broken lines.
    ("GET /v2/ HTTP/1.1\r\nHost : x\r\n\r\n", &[400]),
    ("GET /v2/ HTTP/1.1\r\n Host: x\r\n\r\n", &[400]),
    ("GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", &[400]),
    ("GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n", &[400]),
    ("GET /v2/ HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n", &[400]),
    ("GET /v2/ HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", &[400]),
    ("GET /v2/ HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n", &[400]),
    ("GET /v2/ HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", &[400]),
    ("GET /v2/\0 HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
    ("GET /v2/ x HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
    ("GET  /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
    ("GET v2/ HTTP/1.1\r\nHost: x\r\n\r\n", &[400, 404]),
    ("GET HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
    ("G\u{e4}T /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", &[400]),
    ("GET /v2/ HTTP/3.7\r\nHost: x\r\n\r\n", &[400, 505]),
    ("GET /v2/ HTTP/1.1.1\r\nHost: x\r\n\r\n", &[400]),
    ("GET /v2/ http/1.1\r\nHost: x\r\n\r\n", &[400]),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400, 505]),
    ("nonsense\r\n\r\n", &[400]),
    ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\r\n\r\n", &[400]),
    // Not finished.
    ("GET /v2/ HTTP/1.1\r\nHost: x\r\n", &[400]),
    ("GET", &[400]),
    ("", &[]),
    // Odd, but allowed.
    (
        "GET http://other.example/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
        &[200],
    ),
    ("GET /v2/ HTTP/1.0\r\n\r\n", &[200]),
    ("\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", &[200]),
    ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", &[200, 404]),
    (
        "CONNECT other.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        &[400, 404, 405],
    ),
    (
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        &[200],
    ),
    (
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        &[200, 400],
    ),
];

/// Whoever stands before it, it reads requests in one way.
async fn plain_and_by_tls() -> [Larder; 2] {
    let authority = Authority::new("the tests");
    let pair = Pair::new(&authority.issue());
    let by_tls = Options::registry();
    let by_tls = by_tls.tls(&pair.certificate(), &pair.key(), authority.certificate());
    [Options::registry().start().await, by_tls.start().await]
}

#[tokio::test]
async fn odd_requests_get_one_answer_or_none() {
    for larder in plain_and_by_tls().await {
        for (bytes, allowed) in ODD {
            let came = statuses(&larder, bytes).await;
            assert!(came.len() <= 1, "{bytes:?}: {came:?}");
            assert!(
                came.iter().all(|status| allowed.contains(status)),
                "{bytes:?}: {came:?}"
            );
        }
        assert_eq!(larder.get("/v2/").await.status, 200);
        larder.finish().await;
    }
}

#[tokio::test]
async fn a_length_beside_a_coding_hides_no_request() {
    for larder in plain_and_by_tls().await {
        let hidden = "DELETE /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n";
        push_small(&larder, "a", "v1", "{}").await;
        for codings in [
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
        ] {
            // Whoever goes by the length takes the hidden request for one of its own.
            let bytes = format!(
                "GET /v2/ HTTP/1.1\r\nHost: x\r\n{codings}\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
                hidden.len()
            );
            let came = statuses(&larder, bytes).await;
            assert!(
                matches!(came.as_slice(), [] | [200 | 400]),
                "{codings}: {came:?}"
            );
            assert_eq!(larder.get("/v2/a/manifests/v1").await.status, 200);
        }
        larder.finish().await;
    }
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    for larder in plain_and_by_tls().await {
        for (what, head, allowed) in [
            (
                "a header",
                format!("A: {}\r\n", "x".repeat(2_000_000)),
                [431, 400],
            ),
            ("many headers", "A: x\r\n".repeat(10_000), [431, 400]),
            (
                "endless name",
                format!("{}: x\r\n", "A".repeat(200_000)),
                [431, 400],
            ),
        ] {
            let came = statuses(
                &larder,
                format!("GET /v2/ HTTP/1.1\r\nHost: x\r\n{head}\r\n"),
            )
            .await;
            assert!(
                came.len() <= 1 && came.iter().all(|status| allowed.contains(status)),
                "{what}: {came:?}"
            );
        }
        for length in [70_000, 3_000_000] {
            let came = statuses(
                &larder,
                format!("GET /v2/{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(length)),
            )
            .await;
            assert!(
                matches!(came.as_slice(), [] | [414 | 431 | 400]),
                "{length}: {came:?}"
            );
        }
        // Long, but not too long: headers as large as clients' tokens are.
        let token = format!(
            "GET /v2/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
            "x".repeat(16_000)
        );
        assert_eq!(statuses(&larder, token).await, [200]);
        larder.finish().await;
    }
}

#[tokio::test]
async fn requests_in_a_row_get_their_answers_in_order() {
    for larder in plain_and_by_tls().await {
        push_small(&larder, "a", "v1", "{}").await;
        let blob = sha256(b"{}");
        let requests = [
            "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "GET /v2/a/manifests/none HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            // Bodies that nobody reads do not pass for requests.
            "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 32\r\n\r\nDELETE /v2/a/manifests/v1 HTTP/1".to_owned(),
            "PUT /v2/A/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
            "POST /v2/_catalog HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
            format!("GET /v2/a/blobs/{blob} HTTP/1.1\r\nHost: x\r\nRange: bytes=9-\r\n\r\n"),
            format!("GET /v2/a/blobs/{blob} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ];
        let came = statuses(&larder, requests.concat()).await;
        assert_eq!(came, [200, 404, 200, 400, 405, 416, 200]);
        larder.finish().await;
    }
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    for larder in plain_and_by_tls().await {
        let length = 100_000_000;
        for (path, status) in [
            ("/v2/a/manifests/v1", 413),
            ("/v2/A/manifests/v1", 400),
            ("/v2/a/blobs/uploads/x", 404),
        ] {
            let mut raw = Raw::to(&larder).await;
            raw.send(format!(
                "PUT {path}?digest={} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n",
                sha256(b"")
            ))
            .await;
            let piece = vec![b'x'; 1_000_000];
            let mut sent = 0;
            while sent < length && raw.try_send(&piece).await {
                sent += piece.len();
            }
            let answers = raw.answers().await;
            assert_eq!(
                answers
                    .iter()
                    .map(|answer| answer.status)
                    .collect::<Vec<_>>(),
                [status],
                "{path} after {sent}"
            );
        }
        larder.finish().await;
    }
}
