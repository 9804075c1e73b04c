//! A token service: who has which password, and who may do what, put into tokens that a registry
//! verifies by the service's key alone. Distribution, "Token Authentication Specification".
//!
//! It speaks HTTP/1.1 by hand, one request for each connection, and must not know larder.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::form_urlencoded;

use super::signer::{Kind, Signer, pem};

/// The registry's name at the service.
pub(crate) const SERVICE: &str = "registry.test";
/// The service's name in its tokens.
pub(crate) const ISSUER: &str = "issuer.test";

/// How long a token is good.
const LIFETIME: Duration = Duration::from_mins(5);
/// A request head, or a form, that is longer is nobody's.
const LONGEST: usize = 64 * 1024;

/// A running token service; it stops when it is dropped.
pub(crate) struct TokenService {
    address: String,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    signer: Signer,
    users: Mutex<Vec<User>>,
    /// For each request, who asked and for which scopes.
    asked: Mutex<Vec<String>>,
}

struct User {
    name: String,
    password: String,
    /// `(name, actions)` of repositories; the name `*` is every repository.
    rights: Vec<(String, Vec<String>)>,
}

/// One request: its identity, and the parameters that count.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    user: Option<(String, String)>,
    service: String,
    scopes: Vec<String>,
}

impl TokenService {
    /// Starts one on a free port, which signs with a key of that kind.
    pub(crate) async fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(State {
            signer: Signer::new(kind),
            users: Mutex::default(),
            asked: Mutex::default(),
        });
        let own = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&own);
                tokio::spawn(async move {
                    // Whoever hangs up says so itself.
                    _ = answer(stream, &state).await;
                });
            }
        });
        Self {
            address,
            state,
            accepting,
        }
    }

    /// Adds a user with rights: repositories (`*` for all), and what may be done there. The user
    /// without name and password is everybody who gives none.
    pub(crate) fn user(&self, name: &str, password: &str, rights: &[(&str, &[&str])]) {
        let rights = rights.iter().map(|(repository, actions)| {
            let actions = actions.iter().map(|action| (*action).to_owned());
            ((*repository).to_owned(), actions.collect())
        });
        lock(&self.state.users).push(User {
            name: name.to_owned(),
            password: password.to_owned(),
            rights: rights.collect(),
        });
    }

    /// The address to put into a challenge.
    pub(crate) fn realm(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// The key that signs.
    pub(crate) fn signer(&self) -> &Signer {
        &self.state.signer
    }

    /// What a registry's `rootcertbundle` holds.
    pub(crate) fn bundle(&self) -> String {
        pem(&self.state.signer.certificate(true))
    }

    /// What a registry's `jwks` holds. The key is called by its thumbprint.
    pub(crate) fn jwks(&self) -> String {
        let mut key = self.state.signer.jwk();
        key["kid"] = self.state.signer.thumbprint().into();
        json!({ "keys": [key] }).to_string()
    }

    /// A token as the service would make it, named by any of a key's identifiers.
    pub(crate) fn token(&self, key_id: &str, user: &str, access: &Value) -> String {
        let header = json!({ "kid": key_id });
        self.state.signer.sign(header, &claims(user, access))
    }

    /// Who asked for what so far, as `ann repository:team/app:pull`.
    pub(crate) fn asked(&self) -> Vec<String> {
        lock(&self.state.asked).clone()
    }
}

impl Drop for TokenService {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl State {
    /// Status and body.
    fn reply(&self, asked: &Asked) -> (&'static str, Value) {
        let (name, password) = asked.user.clone().unwrap_or_default();
        lock(&self.asked).push(format!("{name} {}", asked.scopes.join(" ")));
        let refused = |code: &str| json!({ "errors": [{ "code": code, "message": "refused" }] });
        if asked.service != SERVICE {
            return ("400 Bad Request", refused("UNSUPPORTED"));
        }
        let users = lock(&self.users);
        let user = users
            .iter()
            .find(|user| user.name == name && user.password == password);
        if user.is_none() && asked.user.is_some() {
            return ("401 Unauthorized", refused("UNAUTHORIZED"));
        }
        let access = asked
            .scopes
            .iter()
            .filter_map(|scope| granted(scope, user?));
        let access = Value::from(access.collect::<Vec<_>>());
        let header = json!({ "kid": self.signer.libtrust_id() });
        let token = self.signer.sign(header, &claims(&name, &access));
        let lifetime = LIFETIME.as_secs();
        let body = json!({ "token": token, "access_token": token, "expires_in": lifetime });
        ("200 OK", body)
    }
}

/// The access entry for a scope, as much of it as a user may have.
fn granted(scope: &str, user: &User) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, wanted) = rest.rsplit_once(':')?;
    let rights = user
        .rights
        .iter()
        .filter(|(known, _)| known == name || known == "*");
    let allowed: Vec<_> = rights.flat_map(|(_, actions)| actions).collect();
    let actions = wanted
        .split(',')
        .filter(|action| allowed.iter().any(|it| it == action));
    Some(json!({ "type": kind, "name": name, "actions": actions.collect::<Vec<_>>() }))
}

/// The claims of a token that is good for five minutes.
pub(crate) fn claims(user: &str, access: &Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("a clock after 1970").as_secs();
    let end = now + LIFETIME.as_secs();
    json!({
        "iss": ISSUER, "sub": user, "aud": SERVICE, "iat": now, "nbf": now, "exp": end,
        "jti": "1", "access": access,
    })
}

async fn answer(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let (head, body) = request(&mut stream).await?;
    let (status, body) = match parse(&head, &body) {
        Some(asked) => state.reply(&asked),
        None => ("404 Not Found", json!({})),
    };
    let body = body.to_string();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// The head and the body of a request.
async fn request(stream: &mut TcpStream) -> std::io::Result<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(head, "content-length").and_then(|length| length.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok((head.to_owned(), body.to_owned()));
            }
        }
        if bytes.len() > LONGEST || stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// `None` for what is no request for a token: `GET` with a query, or `POST` with a form, which has
/// name and password in it.
fn parse(head: &str, body: &str) -> Option<Asked> {
    let mut words = head.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let text = match (method, path) {
        ("GET", "/token") => query,
        ("POST", "/token") => body,
        _ => return None,
    };
    let mut asked = Asked::default();
    let (mut name, mut password) = (None, None);
    for (key, value) in form_urlencoded::parse(text.as_bytes()) {
        match key.as_ref() {
            "service" => asked.service = value.into_owned(),
            "scope" => asked.scopes.extend(value.split(' ').map(str::to_owned)),
            "username" if method == "POST" => name = Some(value.into_owned()),
            "password" if method == "POST" => password = Some(value.into_owned()),
            _ => {}
        }
    }
    asked.scopes.retain(|scope| !scope.is_empty());
    asked.user = header(head, "authorization")
        .and_then(basic)
        .or_else(|| name.zip(password));
    Some(asked)
}

fn basic(value: &str) -> Option<(String, String)> {
    let decoded = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    let pair = String::from_utf8(decoded).ok()?;
    pair.split_once(':')
        .map(|(name, password)| (name.to_owned(), password.to_owned()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
