//! Who is asked for a password, when, and how; and what becomes of passwords that nobody asked for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Identity, USERS, protected};
use crate::support::hub::Hub;
use crate::support::image::Image;
use crate::support::programs::{
    Answer, Dockerd, File, Htpasswd, Larder, Options, Recorder, Skopeo,
};
use crate::support::until::until;

const FILES: &[File<'static>] = &[("etc/greeting", b"hello\n")];

fn open_for_pulls() -> [(&'static str, Value); 1] {
    [("anonymous", json!(["pull"]))]
}

async fn bearer(larder: &Larder, method: &str, path: &str, token: &str) -> Answer {
    let request = larder.request(method, path).bearer_auth(token);
    larder.send(request).await
}

/// A token from larder's own service; the answer's status where there is none.
async fn token(larder: &Larder, who: Identity, query: &str) -> Result<String, u16> {
    let answer = who.get(larder, &format!("/token?service=x{query}")).await;
    if answer.status == 200 {
        Ok(answer.json()["token"].as_str().unwrap().to_owned())
    } else {
        assert!(answer.header("www-authenticate").starts_with("Basic "));
        Err(answer.status)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_pulls_and_a_password_pushes() {
    let users = Htpasswd::new(&USERS);
    let options = protected(Options::registry(), &users, &open_for_pulls());
    let larder = options.start().await;
    let blobs = "/v2/team/app/blobs/uploads/";
    let base = larder.get("/v2/").await;
    assert_eq!(base.status, 401);
    let realm = format!("Bearer realm=\"{}/token\"", larder.url());
    assert!(base.header("www-authenticate").starts_with(&realm));

    let anonymous = token(&larder, Identity::Anonymous, "").await.unwrap();
    let annas = token(&larder, Identity::Anna, "").await.unwrap();
    for (token, base, push) in [(&anonymous, 200, 401), (&annas, 200, 202)] {
        assert_eq!(bearer(&larder, "GET", "/v2/", token).await.status, base);
        let pushed = bearer(&larder, "POST", blobs, token).await;
        assert_eq!(pushed.status, push, "{pushed:?}");
        let location = pushed.header("location");
        if push == 202 {
            let cancelled = bearer(&larder, "DELETE", location, token).await;
            assert_eq!(cancelled.status, 204);
        }
        let missing = bearer(&larder, "GET", "/v2/team/app/tags/list", token).await;
        assert_eq!(missing.status, 404, "let through, but there is nothing");
    }
    let refused = larder.send(larder.request("POST", blobs)).await;
    let challenge = refused.header("www-authenticate");
    assert!(
        challenge.contains("scope=\"repository:team/app:pull,push\""),
        "{challenge}"
    );
    // A login finds out whether the password is right; a pull with a foreign one is a pull.
    assert_eq!(token(&larder, Identity::WrongPassword, "").await, Err(401));
    let scoped = "&scope=repository:team/app:pull";
    let foreign = token(&larder, Identity::WrongPassword, scoped).await;
    assert_eq!(foreign.unwrap(), anonymous);
    let wrong = Identity::WrongPassword;
    assert_eq!(wrong.get(&larder, "/v2/").await.status, 401);
    assert_eq!(
        wrong.get(&larder, "/v2/team/app/tags/list").await.status,
        404
    );
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_user_is_out_at_once() {
    let users = Htpasswd::new(&USERS);
    let options = protected(Options::registry(), &users, &open_for_pulls());
    let larder = options.start().await;
    let annas = token(&larder, Identity::Anna, "").await.unwrap();
    // There is no such session, which only those are told who may push.
    let path = "/v2/team/app/blobs/uploads/0197a1f0-0000-7000-8000-000000000000";
    let told = || async {
        let by_token = bearer(&larder, "GET", path, &annas).await;
        let by_password = Identity::Anna.get(&larder, path).await;
        (by_token.status, by_password.status)
    };
    assert_eq!(told().await, (404, 404));
    users.replace(&USERS[1..]);
    // The file is looked at once a second at most.
    until("she is out", async || told().await == (401, 401)).await;
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_asks_nobody_who_pulls_and_takes_no_notice_of_foreign_passwords() {
    let (hub, users) = (Hub::start().await, Htpasswd::new(&USERS));
    hub.push("library/x", "1", &Image::random(1, &[3000]));
    let options = protected(Options::mirror_of(&hub), &users, &open_for_pulls());
    let larder = options.start().await;
    assert_eq!(larder.get("/v2/").await.status, 200);
    for who in [Identity::Anonymous, Identity::WrongPassword, Identity::Anna] {
        let pulled = who.get(&larder, "/v2/library/x/manifests/1").await;
        assert_eq!(pulled.status, 200, "{who:?}: {pulled:?}");
    }
    for header in ["Basic Og==", "Basic !", "Bearer junk", "Whatever", ""] {
        let request = larder
            .request("GET", "/v2/library/x/manifests/1")
            .header("authorization", header);
        assert_eq!(larder.send(request).await.status, 200, "{header}");
    }
    let twice = larder
        .request("GET", "/v2/library/x/manifests/1")
        .header("authorization", "Basic Og==")
        .header("authorization", "Basic Og==");
    // Which of the two would count is nobody's to guess.
    assert_eq!(larder.send(twice).await.status, 400);
    for request in hub.asked() {
        assert_eq!(request.header("authorization"), None, "{request:?}");
    }
    let push = larder.request("POST", "/v2/team/app/blobs/uploads/");
    assert_eq!(larder.send(push).await.status, 401);
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_the_base_asks_can_be_set() {
    let (hub, users) = (Hub::start().await, Htpasswd::new(&USERS));
    for (challenge, status, other) in [
        (json!("auto"), 200, 200),
        (json!("always"), 401, 401),
        (json!("never"), 200, 200),
        (json!(["push.example.com"]), 200, 401),
    ] {
        let further = [
            ("anonymous", json!(["pull"])),
            ("challenge", challenge.clone()),
        ];
        let options = protected(Options::mirror_of(&hub), &users, &further);
        let larder = options.start().await;
        assert_eq!(larder.get("/v2/").await.status, status, "{challenge}");
        let push = larder
            .request("GET", "/v2/")
            .header("host", "push.example.com:5000");
        assert_eq!(larder.send(push).await.status, other, "{challenge}");
        larder.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_pulls_without_a_password_and_pushes_with_one() {
    let users = Htpasswd::new(&USERS);
    let options = protected(Options::registry(), &users, &open_for_pulls());
    let larder = options.start().await;
    let (anna, anybody) = tokio::join!(Dockerd::without_mirror(), Dockerd::without_mirror());
    let name = format!("{}/team/app:1", larder.address());
    let built = anna.build_scratch_image(&name, FILES).await;
    let refused = anna.try_push(&name).await;
    assert!(!refused.success, "{refused:?}");
    let wrong = ["login", "-u", "anna", "--password-stdin", larder.address()];
    let wrong = anna.docker_with_input(&wrong, b"guessed").await;
    assert!(!wrong.success, "{wrong:?}");
    anna.login(larder.address(), "anna", USERS[0].1).await;
    anna.push(&name).await;
    anybody.pull(&name).await;
    assert_eq!(anybody.image_id(&name).await, built);
    let skopeo = Skopeo::new();
    let inspected = skopeo.inspect(&format!("docker://{name}")).await;
    assert!(inspected["Digest"].is_string(), "{inspected}");
    larder.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_sends_a_mirror_no_password_of_docker_hub() {
    let (hub, users) = (Hub::start().await, Htpasswd::new(&USERS));
    let image = Image::random(1, &[3000]);
    hub.push("library/app", "1", &image);
    for (challenge, leaks) in [("auto", false), ("always", true)] {
        let further = [
            ("anonymous", json!(["pull"])),
            ("challenge", json!(challenge)),
        ];
        let options = protected(Options::mirror_of(&hub), &users, &further);
        let larder = options.start().await;
        let wire = Recorder::before(larder.address()).await;
        let docker = Dockerd::with_mirror(&wire.url()).await;
        docker.remember_login(
            "https://index.docker.io/v1/",
            "me",
            "my Docker Hub password",
        );
        docker.pull("app:1").await;
        assert_eq!(docker.image_id("app:1").await, image.config_digest());
        // The second line is what this is about: where it is asked, dockerd sends it.
        let sent = wire
            .heard()
            .to_ascii_lowercase()
            .contains("authorization: basic");
        assert_eq!(sent, leaks, "{challenge}: {}", wire.heard());
        larder.finish().await;
    }
}

/// Passwords are hashed slowly on purpose, and who guesses them must not be in the way of who pulls.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_guesses_a_second_keep_nobody_waiting() {
    const A_SECOND: u32 = 200;
    const GUESSES: u32 = 1000;
    let hub = Hub::start().await;
    hub.push("library/app", "1", &Image::random(1, &[2000]));
    let users = Htpasswd::costly(&USERS);
    let options = protected(Options::mirror_of(&hub), &users, &open_for_pulls());
    let larder = options.start().await;
    let pulled = "/v2/library/app/manifests/1";
    assert_eq!(larder.get(pulled).await.status, 200);
    let guessing = async {
        let mut beat = tokio::time::interval(Duration::from_secs(1) / A_SECOND);
        let mut guesses = Vec::new();
        for guess in 0..GUESSES {
            beat.tick().await;
            let request = larder.request("GET", "/v2/");
            let request = request.basic_auth("anna", Some(guess.to_string()));
            guesses.push(tokio::spawn(request.send()));
        }
        guesses
    };
    let guessing_is_over = AtomicBool::new(false);
    let pulling = async {
        let mut times = Vec::new();
        while !guessing_is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            assert_eq!(larder.get(pulled).await.status, 200);
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        times
    };
    let guessing = async {
        let guesses = guessing.await;
        guessing_is_over.store(true, Ordering::Relaxed);
        guesses
    };
    let (guesses, times) = tokio::join!(guessing, pulling);
    let mut looked_at = 0;
    for guess in guesses {
        let status = guess.await.unwrap().unwrap().status().as_u16();
        assert!([401, 429].contains(&status), "{status}");
        looked_at += u32::from(status == 401);
    }
    let slow = times[times.len() * 99 / 100];
    eprintln!(
        "{looked_at} of {GUESSES} guesses were looked at; 99 % of {} pulls within {slow:?}",
        times.len()
    );
    assert!(looked_at > 0 && slow < Duration::from_secs(1), "{slow:?}");
    larder.finish().await;
}
