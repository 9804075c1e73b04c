//! Health checks: what takes a registry out of service, what is answered then, and that it comes
//! back by itself.

use std::time::Duration;

use larder::health::{Check, Headers, What};
use serde_json::json;
use tokio::net::TcpListener;

use crate::support::inside::{Inside, Wanted};
use crate::support::receiver::{Manner, Receiver};
use crate::support::until::until;

const PATIENCE: Duration = Duration::from_secs(20);

fn often(what: What) -> Check {
    Check {
        what,
        interval: Duration::from_millis(20),
        threshold: 0,
    }
}

/// Waits until it is in service, or out of it.
async fn until_in_service(larder: &Inside, up: bool) {
    let what = if up {
        "it is healthy"
    } else {
        "it is unhealthy"
    };
    until(what, async || larder.around.health.is_up() == up).await;
}

/// Every path answers 503, and the debug listener says why.
async fn assert_closed(larder: &Inside, name: &str, reason: &str) {
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v2/"),
        ("GET", "/v2/team/app/manifests/1"),
        ("POST", "/v2/team/app/blobs/uploads/"),
        ("GET", "/no/such/path"),
    ] {
        let answer = larder.ask(method, path).await;
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(
            answer.header("docker-distribution-api-version"),
            "",
            "{path}"
        );
        let expected = "{\"errors\":[{\"code\":\"UNAVAILABLE\",\"message\":\"service unavailable\",\
            \"detail\":\"health check failed: please see /debug/health\"}]}\n";
        assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
    }
    let shown = larder.debug("/debug/health").await;
    assert_eq!(shown.status, 503);
    let said = shown.json()[name].as_str().unwrap_or_default().to_owned();
    assert!(said.contains(reason), "{}", shown.json());
}

async fn assert_open(larder: &Inside) {
    assert_eq!(larder.ask("GET", "/").await.status, 200);
    assert_eq!(larder.ask("GET", "/v2/").await.status, 200);
    let shown = larder.debug("/debug/health").await;
    assert_eq!((shown.status, shown.json()), (200, json!({})));
}

#[tokio::test]
async fn a_file_takes_the_registry_out_of_service_while_it_is_there() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("down");
    let check = often(What::File { path: path.clone() });
    // A threshold is for things that may fail by chance. A file is there on purpose.
    let check = Check {
        threshold: 1_000_000,
        ..check
    };
    let larder = Wanted::checking([check]).start().await;
    assert_open(&larder).await;
    std::fs::write(&path, "").unwrap();
    until_in_service(&larder, false).await;
    assert_closed(&larder, path.to_str().unwrap(), "file exists").await;
    std::fs::remove_file(&path).unwrap();
    until_in_service(&larder, true).await;
    assert_open(&larder).await;
    larder.finish().await;
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_looked_at_is_unhealthy_and_a_missing_one_is_not() {
    let home = tempfile::tempdir().unwrap();
    let parent = home.path().join("parent");
    let root = parent.join("root");
    let larder = Wanted::checking([often(What::Storage { root })]);
    let larder = larder.start().await;
    // Nothing can be below a file: the look fails, even for root, whom no permission stops.
    std::fs::write(&parent, "").unwrap();
    until_in_service(&larder, false).await;
    assert_closed(&larder, "storagedriver_filesystem", "Not a directory").await;
    // Now there is nothing at all.
    std::fs::remove_file(&parent).unwrap();
    until_in_service(&larder, true).await;
    assert_open(&larder).await;
    larder.finish().await;
}

#[tokio::test]
async fn an_address_must_answer_a_head_with_the_status_that_is_expected() {
    let asked = Receiver::start().await;
    asked.usually(Manner::Status(500));
    let check = often(What::Http {
        uri: asked.url(),
        headers: Headers(vec![("x-key".to_owned(), "s3cret-header".to_owned())]),
        status: 204,
        timeout: PATIENCE,
    });
    let larder = Wanted::checking([Check {
        threshold: 3,
        ..check
    }]);
    let larder = larder.start().await;
    until_in_service(&larder, false).await;
    let heard = asked.heard();
    assert!(heard.len() >= 3, "not before the third failure: {heard:?}");
    assert_eq!(
        (&*heard[0].method, &heard[0].headers["x-key"]),
        ("HEAD", &"s3cret-header".parse().unwrap())
    );
    let name = format!("http://{}/hooks/s3cret-path", asked.address());
    assert_closed(
        &larder,
        &name,
        "it answers 500 Internal Server Error, not 204",
    )
    .await;
    // One success is enough, and then it takes three failures again.
    asked.next([Manner::Status(204)]);
    until_in_service(&larder, true).await;
    until_in_service(&larder, false).await;
    let elsewhere = Receiver::start().await;
    asked.usually(Manner::Redirect(elsewhere.url().into()));
    asked.requests(asked.heard().len() + 2).await;
    assert_closed(&larder, &name, "redirects are not followed").await;
    assert!(elsewhere.heard().is_empty());
    asked.usually(Manner::Status(204));
    until_in_service(&larder, true).await;
    assert_open(&larder).await;
    larder.finish().await;
}

#[tokio::test]
async fn an_address_that_does_not_answer_in_time_is_unhealthy() {
    let asked = Receiver::start().await;
    asked.usually(Manner::Stall);
    let check = often(What::Http {
        uri: asked.url(),
        headers: Headers::default(),
        status: 200,
        timeout: Duration::from_millis(50),
    });
    let larder = Wanted::checking([check]).start().await;
    until_in_service(&larder, false).await;
    let name = format!("http://{}/hooks/s3cret-path", asked.address());
    assert_closed(&larder, &name, "no answer in time").await;
    larder.finish().await;
}

#[tokio::test]
async fn a_port_must_take_connections() {
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = open.local_addr().unwrap().to_string();
    let check = |addr: String| {
        let timeout = PATIENCE;
        often(What::Tcp { addr, timeout })
    };
    let larder = Wanted::checking([check(addr.clone())]).start().await;
    // It has looked, and found it open.
    open.accept().await.unwrap();
    assert_open(&larder).await;
    drop(open);
    until_in_service(&larder, false).await;
    assert_closed(&larder, &addr, "refused").await;
    let open = TcpListener::bind(&addr).await.unwrap();
    until_in_service(&larder, true).await;
    assert_open(&larder).await;
    drop(open);
    larder.finish().await;
}

#[tokio::test]
async fn several_failures_are_all_shown_and_all_have_to_go() {
    let home = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| home.path().join(name));
    let checks = paths.clone().map(|path| often(What::File { path }));
    let larder = Wanted::checking(checks).start().await;
    for path in &paths {
        std::fs::write(path, "").unwrap();
    }
    let shown = async || {
        let shown = larder.debug("/debug/health").await.json();
        shown.as_object().unwrap().len()
    };
    until("both are shown", async || shown().await == 2).await;
    std::fs::remove_file(&paths[0]).unwrap();
    until("one is shown", async || shown().await == 1).await;
    assert_closed(&larder, paths[1].to_str().unwrap(), "file exists").await;
    std::fs::remove_file(&paths[1]).unwrap();
    until_in_service(&larder, true).await;
    larder.finish().await;
}

#[tokio::test]
async fn the_debug_listener_shows_what_it_knows_and_nothing_else() {
    let larder = Wanted::default().start().await;
    let health = larder.debug("/debug/health").await;
    assert_eq!((health.status, &*health.body), (200, b"{}".as_slice()));
    let vars = larder.debug("/debug/vars").await;
    assert_eq!(vars.header("content-type"), "application/json");
    let vars = vars.json();
    assert_eq!(vars["registry"]["notifications"]["endpoints"], json!([]));
    assert_eq!(vars["larder"]["pid"], std::process::id());
    for path in [
        "/",
        "/v2/",
        "/metrics",
        "/debug/health/down",
        "/debug/pprof/",
    ] {
        assert_eq!(larder.debug(path).await.status, 404, "{path}");
    }
    // Nor is it to be had where the world can ask for it.
    assert_eq!(larder.ask("GET", "/debug/health").await.status, 404);
    larder.finish().await;
}
