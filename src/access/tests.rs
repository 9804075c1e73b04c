//! Access as a whole: who is recognised, what they may do, how they are challenged.
#![expect(
    clippy::disallowed_methods,
    reason = "tests make and break files as they like"
)]

use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tempfile::TempDir;

use super::*;

#[path = "../../tests/it/support/signer.rs"]
pub(super) mod signer;

use self::signer::{Kind, Signer};

const PULL: Wanted<'_> = Wanted::Repository("team/app", Action::Pull);
const PUSH: Wanted<'_> = Wanted::Repository("team/app", Action::Push);
const AT: AskedAt<'_> = AskedAt {
    scheme: "https",
    host: "reg.example.com:5000",
};

fn settings(scheme: Scheme) -> Settings {
    Settings {
        scheme,
        anonymous: Vec::new(),
        rules: Vec::new(),
        challenge: Challenge::Auto,
        secret: None,
    }
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// A file of users, as Apache's program writes it.
struct Users {
    directory: TempDir,
}

impl Users {
    fn new(users: &[(&str, &str)]) -> Self {
        let file = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        std::fs::write(file.path(), "# users\n").unwrap();
        for (name, password) in users {
            file.add(name, password);
        }
        file
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("htpasswd")
    }

    fn add(&self, name: &str, password: &str) {
        self.htpasswd(&["-bB", "-C", "4"], &[name, password]);
    }

    fn htpasswd(&self, options: &[&str], arguments: &[&str]) {
        let done = Command::new("htpasswd")
            .args(options)
            .arg(self.path())
            .args(arguments)
            .output();
        let done = done.expect("htpasswd of apache2-utils: run tests/install-packages as root");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    fn settings(&self) -> Settings {
        settings(Scheme::Htpasswd {
            realm: "a \"school\"".to_owned(),
            path: self.path(),
        })
    }

    fn access(&self, change: impl FnOnce(&mut Settings)) -> Access {
        let mut settings = self.settings();
        change(&mut settings);
        Access::new(settings).unwrap()
    }
}

/// Makes the next question look at the file again, instead of in a second.
fn look_again(access: &Access) {
    let Means::Htpasswd(htpasswd) = &access.0.means else {
        panic!("no file to look at");
    };
    htpasswd.users.look_at_next_question();
}

#[tokio::test]
async fn where_everything_is_open_nobody_is_asked() {
    let access = Access::new(settings(Scheme::Open)).unwrap();
    assert!(access.is_open() && !access.issues_tokens());
    for header in [None, Some("Basic eDp5"), Some("Bearer x"), Some("nonsense")] {
        let caller = access.identify(header).await.unwrap();
        assert_eq!(caller.name(), None);
        assert!(access.may(&caller, &PUSH) && access.may(&caller, &Wanted::Catalog));
    }
    assert!(!access.challenges_base("host", false));
}

#[test]
fn it_goes_wherever_a_request_goes() {
    fn goes_anywhere(_: &(impl Send + Sync + 'static)) {}
    fn moves(_: impl Send) {}
    let access = Access::new(settings(Scheme::Open)).unwrap();
    goes_anywhere(&access);
    goes_anywhere(&Caller::anonymous());
    moves(access.identify(None));
}

#[tokio::test]
async fn apaches_passwords_let_their_users_in() {
    let users = Users::new(&[("ann", "s3:cret ö"), ("bob", "other")]);
    users.htpasswd(&["-bm"], &["md5", "secret"]);
    let access = users.access(|_| {});
    let ann = access
        .identify(Some(&basic("ann", "s3:cret ö")))
        .await
        .unwrap();
    assert_eq!(ann.name(), Some("ann"));
    assert!(access.may(&ann, &PUSH) && access.may(&ann, &Wanted::Catalog));
    for (name, password) in [
        ("ann", "other"),
        ("ann", ""),
        ("eve", "x"),
        ("md5", "secret"),
    ] {
        let refused = access.identify(Some(&basic(name, password))).await;
        assert_eq!(refused.err(), Some(Unidentified::BadCredentials), "{name}");
    }
    let nobody = access.identify(None).await.unwrap();
    assert!(nobody.is_anonymous() && !access.may(&nobody, &PULL));
    assert!(!access.may(&nobody, &Wanted::Catalog));
    let refused = access.identify(Some("Bearer a.b.c")).await;
    assert_eq!(refused.err(), Some(Unidentified::InvalidToken));

    assert!(!access.issues_tokens() && access.token_endpoint_challenge().is_none());
    let challenge = access.challenge(&[PULL], Why::InvalidToken, &AT);
    assert_eq!(challenge, r#"Basic realm="a \"school\"""#);
    assert!(access.challenges_base("any", true));
}

#[tokio::test]
async fn a_user_who_changes_is_out_at_once() {
    let users = Users::new(&[("ann", "old")]);
    let access = users.access(|settings| settings.anonymous = vec![Action::Pull]);
    let old = basic("ann", "old");
    let ann = access.identify(Some(&old)).await.unwrap();
    let bearer = format!("Bearer {}", access.issue_token(&ann).token);
    assert!(access.identify(Some(&bearer)).await.is_ok());
    users.add("ann", "new");
    look_again(&access);
    assert_eq!(
        access.identify(Some(&old)).await.err(),
        Some(Unidentified::BadCredentials)
    );
    assert_eq!(
        access.identify(Some(&bearer)).await.err(),
        Some(Unidentified::InvalidToken)
    );
    let ann = access.identify(Some(&basic("ann", "new"))).await.unwrap();
    let bearer = format!("Bearer {}", access.issue_token(&ann).token);
    users.add("bob", "x");
    users.htpasswd(&["-D"], &["ann"]);
    look_again(&access);
    assert_eq!(
        access.identify(Some(&bearer)).await.err(),
        Some(Unidentified::InvalidToken)
    );
}

#[tokio::test]
async fn what_anybody_may_do_needs_a_token_that_anybody_gets() {
    let users = Users::new(&[("ann", "secret")]);
    let access = users.access(|settings| settings.anonymous = vec![Action::Pull]);
    assert!(access.issues_tokens());
    assert_eq!(
        access.challenge(&[PULL, PUSH], Why::NoCredentials, &AT),
        r#"Bearer realm="https://reg.example.com:5000/token",service="a \"school\"",scope="repository:team/app:pull,push""#
    );
    assert_eq!(
        access.token_endpoint_challenge().as_deref(),
        Some(r#"Basic realm="a \"school\"""#)
    );

    let nobody = access.identify(Some("Basic Og==")).await.unwrap();
    let token = access.issue_token(&nobody);
    assert_eq!((token.token.as_str(), token.expires_in), ("anonymous", 300));
    let nobody = access.identify(Some("Bearer anonymous")).await.unwrap();
    assert!(access.may(&nobody, &PULL) && !access.may(&nobody, &PUSH));

    let ann = access
        .identify(Some(&basic("ann", "secret")))
        .await
        .unwrap();
    let token = access.issue_token(&ann);
    assert!(!format!("{access:?} {token:?}").contains(&token.token));
    let json = serde_json::to_value(&token).unwrap();
    assert_eq!(json["token"], json["access_token"]);
    assert!(json["issued_at"].is_string() && json["expires_in"] == 300);
    let again = access
        .identify(Some(&format!("bearer {}", token.token)))
        .await
        .unwrap();
    assert_eq!(again.name(), Some("ann"));
    assert!(access.may(&again, &PUSH));
    let refused = access
        .identify(Some(&format!("Bearer {}x", token.token)))
        .await;
    assert_eq!(refused.err(), Some(Unidentified::InvalidToken));
    // Another process has another key.
    let other = users.access(|settings| settings.anonymous = vec![Action::Pull]);
    let refused = other
        .identify(Some(&format!("Bearer {}", token.token)))
        .await;
    assert_eq!(refused.err(), Some(Unidentified::InvalidToken));
}

#[tokio::test]
async fn with_the_same_secret_tokens_count_everywhere() {
    let users = Users::new(&[("ann", "secret")]);
    let access = |secret: &str| {
        users.access(|settings| {
            settings.anonymous = vec![Action::Pull];
            settings.secret = Some(secret.to_owned());
        })
    };
    let (one, two, other) = (access("s"), access("s"), access("t"));
    let ann = one.identify(Some(&basic("ann", "secret"))).await.unwrap();
    let bearer = format!("Bearer {}", one.issue_token(&ann).token);
    assert!(two.identify(Some(&bearer)).await.is_ok());
    assert!(other.identify(Some(&bearer)).await.is_err());
}

#[test]
fn the_base_challenges_whom_it_must() {
    let users = Users::new(&[("ann", "secret")]);
    let asks = |challenge: Challenge, host: &str, is_mirror: bool| {
        let access = users.access(|settings| {
            settings.anonymous = vec![Action::Pull];
            settings.challenge = challenge;
        });
        access.challenges_base(host, is_mirror)
    };
    assert!(asks(Challenge::Auto, "h", false) && !asks(Challenge::Auto, "h", true));
    assert!(asks(Challenge::Always, "h", true));
    assert!(!asks(Challenge::Never, "h", false));
    let hosts = || Challenge::Hosts(vec!["push.example.com".to_owned()]);
    assert!(asks(hosts(), "push.example.com:5000", true));
    assert!(!asks(hosts(), "pull.example.com:5000", false));
}

#[tokio::test]
async fn without_a_file_to_read_nobody_gets_in() {
    let directory = tempfile::tempdir().unwrap();
    let access = Access::new(settings(Scheme::Htpasswd {
        realm: "r".to_owned(),
        path: directory.path().to_owned(),
    }));
    let refused = access.unwrap().identify(Some(&basic("ann", "x"))).await;
    assert_eq!(refused.err(), Some(Unidentified::Broken));
}

/// A token service's keys, in files.
fn token_settings(signer: &Signer, directory: &TempDir) -> TokenSettings {
    let jwks = directory.path().join("jwks.json");
    let mut key = signer.jwk();
    key["kid"] = "one".into();
    std::fs::write(&jwks, json!({ "keys": [key] }).to_string()).unwrap();
    TokenSettings {
        realm: "https://auth.example.com/token".to_owned(),
        service: "registry".to_owned(),
        issuer: "issuer".to_owned(),
        jwks: Some(jwks),
        auto_redirect_path: "/auth/token".to_owned(),
        ..TokenSettings::default()
    }
}

#[tokio::test]
async fn a_token_of_the_token_service_decides_alone() {
    let (signer, directory) = (Signer::new(Kind::Es256), tempfile::tempdir().unwrap());
    let mut with = settings(Scheme::Token(token_settings(&signer, &directory)));
    with.anonymous = vec![Action::Delete];
    let access = Access::new(with).unwrap();
    let claims = json!({
        "iss": "issuer", "aud": "registry", "sub": "ann", "exp": 4_000_000_000_u64,
        "access": [
            { "type": "repository", "name": "team/app", "actions": ["pull"] },
            { "type": "repository", "name": "team/all", "actions": ["*"] },
        ],
    });
    let bearer = format!("Bearer {}", signer.sign(json!({ "kid": "one" }), &claims));
    let ann = access.identify(Some(&bearer)).await.unwrap();
    assert_eq!(ann.name(), Some("ann"));
    for (wanted, expected) in [
        (PULL, true),
        (PUSH, false),
        (Wanted::Repository("team/all", Action::Push), true),
        (Wanted::Repository("team/all/x", Action::Pull), false),
        // By the right of anybody.
        (Wanted::Repository("other", Action::Delete), true),
        (Wanted::Catalog, false),
    ] {
        assert_eq!(access.may(&ann, &wanted), expected, "{wanted:?}");
    }
    assert!(
        access
            .identify(Some("Bearer anonymous"))
            .await
            .unwrap()
            .is_anonymous()
    );
    let refused = access.identify(Some(&bearer.replace('.', ".A"))).await;
    assert_eq!(refused.err(), Some(Unidentified::InvalidToken));
    let refused = access.identify(Some(&basic("ann", "x"))).await;
    assert_eq!(refused.err(), Some(Unidentified::BadCredentials));
    assert_eq!(
        access.challenge(&[Wanted::Catalog], Why::InsufficientScope, &AT),
        r#"Bearer realm="https://auth.example.com/token",service="registry",scope="registry:catalog:*",error="insufficient_scope""#
    );
    // A token that opens nothing says who has it all the same.
    let claims = json!({
        "iss": "issuer", "aud": ["x", "registry"], "exp": 4_000_000_000_u64, "access": null,
    });
    let bearer = format!("Bearer {}", signer.sign(json!({ "kid": "one" }), &claims));
    let somebody = access.identify(Some(&bearer)).await.unwrap();
    assert!(!somebody.is_anonymous() && !access.may(&somebody, &PULL));
}

#[test]
fn the_token_service_may_be_where_the_client_is() {
    let (signer, directory) = (Signer::new(Kind::EdDsa), tempfile::tempdir().unwrap());
    let mut token = token_settings(&signer, &directory);
    token.auto_redirect = true;
    let access = Access::new(settings(Scheme::Token(token))).unwrap();
    assert_eq!(
        access.challenge(&[], Why::NoCredentials, &AT),
        r#"Bearer realm="https://reg.example.com:5000/auth/token",service="registry""#
    );
}

#[test]
fn wrong_settings_say_what_would_be_right() {
    let (signer, directory) = (Signer::new(Kind::EdDsa), tempfile::tempdir().unwrap());
    let good = || token_settings(&signer, &directory);
    let token = |change: fn(&mut TokenSettings)| {
        let mut token = good();
        change(&mut token);
        settings(Scheme::Token(token))
    };
    let mut ruled = settings(Scheme::Token(good()));
    ruled.rules = vec![Rule {
        who: vec!["*".to_owned()],
        may: vec![Action::Pull],
        names: vec!["*".to_owned()],
    }];
    let no_realm = Scheme::Htpasswd {
        realm: String::new(),
        path: "/nowhere".into(),
    };
    for (settings, expected) in [
        (ruled, "the token service decides"),
        (settings(no_realm), "auth.htpasswd.realm must be set"),
        (token(|it| it.realm.clear()), "auth.token.realm must be set"),
        (
            token(|it| it.issuer.clear()),
            "auth.token.issuer must be set",
        ),
        (
            token(|it| it.service.clear()),
            "auth.token.service must be set",
        ),
        (token(|it| it.jwks = None), "set rootcertbundle or jwks"),
        (
            token(|it| it.jwks = Some("/nowhere".into())),
            "auth.token.jwks: /nowhere: No such",
        ),
        (
            token(|it| it.root_cert_bundle = it.jwks.clone()),
            "BEGIN CERTIFICATE",
        ),
        (
            token(|it| it.signing_algorithms = vec!["none".into()]),
            "\"none\" is not one of RS256",
        ),
        (
            token(|it| it.signing_algorithms = vec!["ES512".into()]),
            "\"ES512\" is not one of",
        ),
    ] {
        let error = Access::new(settings).err().unwrap().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn the_secret_is_not_shown() {
    let mut settings = settings(Scheme::Open);
    settings.secret = Some("canary".to_owned());
    assert!(!format!("{settings:?}").contains("canary"));
}
