//! Who may do what: the whole of it, on the wire.

mod challenges;
mod console;
mod matrix;
mod secrets;
mod sessions;
mod tokens;

use serde_json::{Value, json};

use crate::support::programs::{Answer, Htpasswd, Larder, Options};

/// The users of these tests, and their passwords.
const USERS: [(&str, &str); 2] = [("anna", "anna's password"), ("bob", "bob's password")];

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Identity {
    /// Nobody.
    Anonymous,
    /// Anna, with a password that is not hers.
    WrongPassword,
    /// A user who may do nothing with what the tests ask for.
    Bob,
    /// A user who may do everything with it.
    Anna,
}

impl Identity {
    /// A request of theirs.
    fn request(self, larder: &Larder, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = larder.request(method, path);
        let as_user = |(name, password): (&str, &str)| request.basic_auth(name, Some(password));
        match self {
            Self::Anonymous => larder.request(method, path),
            Self::WrongPassword => as_user((USERS[0].0, "guessed")),
            Self::Bob => as_user(USERS[1]),
            Self::Anna => as_user(USERS[0]),
        }
    }

    async fn get(self, larder: &Larder, path: &str) -> Answer {
        larder.send(self.request(larder, "GET", path)).await
    }
}

/// With passwords, and these further keys under `auth`.
fn protected(options: Options, users: &Htpasswd, further: &[(&str, Value)]) -> Options {
    let htpasswd = json!({ "realm": "the larder", "path": users.path() });
    let mut options = options.set(&["auth", "htpasswd"], htpasswd);
    for (key, value) in further {
        options = options.set(&["auth", key], value.clone());
    }
    options
}

/// Anna may do everything with her team's repositories and with mirrors, Bob with his own.
fn rules() -> Value {
    json!([
        { "who": ["anna"], "may": ["pull", "push", "delete"], "names": ["team/*", "docker.io/*"] },
        { "who": "*", "may": ["pull", "push", "delete"], "names": "{user}/*" },
    ])
}
