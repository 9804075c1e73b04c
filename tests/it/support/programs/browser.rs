//! Debian's chromium, driven by its chromedriver over loopback: a person in front of the page.
//!
//! The protocol is `WebDriver`'s (<https://www.w3.org/TR/webdriver2/>), which is JSON over HTTP, and
//! chromedriver's own command for the developer tools, which sets what a machine looks like.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::{client_trusting, command, find, new_home};

/// How long a test waits for something that should soon be on the page.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits, in the page, until the function gives something that is not nothing, false or empty. It
/// looks whenever the document changes, and now and then for what is no change of the document.
const UNTIL: &str = "
const done = arguments[arguments.length - 1], given = arguments[0];
const look = () => { try { return (function () { SCRIPT })(given); } catch (error) { return null; } };
let timer = 0;
const observer = new MutationObserver(() => check());
const check = () => {
  const found = look();
  if (!found) return;
  observer.disconnect();
  clearInterval(timer);
  done(found);
};
observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
timer = setInterval(check, 50);
check();
";

/// A browser with one window. Dropping it ends it.
pub(crate) struct Browser {
    _driver: Daemon,
    client: reqwest::Client,
    session: String,
}

/// A key that is not a letter, as `WebDriver` writes it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    Tab,
    Enter,
    Escape,
    Down,
}

impl Key {
    fn code(self) -> char {
        match self {
            Self::Tab => '\u{e004}',
            Self::Enter => '\u{e007}',
            Self::Escape => '\u{e00c}',
            Self::Down => '\u{e015}',
        }
    }
}

const TRIES: usize = 5;

/// chromedriver, and its port. It takes a free one of IPv6 and then the same of IPv4, which somebody
/// else may have meanwhile: then it ends, and another is started.
async fn driver() -> (Daemon, String) {
    for _ in 0..TRIES {
        let home = new_home("browser");
        let mut driver = command("chromedriver", home.path());
        driver.arg("--port=0");
        let driver = Daemon::start("chromedriver", driver, home);
        let port = driver
            .ready(
                |line| match line.split_once("started successfully on port ") {
                    Some((_, port)) => Some(Some(port.trim().trim_end_matches('.').to_owned())),
                    None => line.contains("port not available").then_some(None),
                },
            )
            .await;
        if let Some(port) = port {
            return (driver, port);
        }
    }
    panic!("chromedriver found its port taken {TRIES} times");
}

impl Browser {
    /// Starts one. It shows nothing yet, is as wide as a desk's screen, and light.
    pub(crate) async fn start() -> Self {
        let (driver, port) = driver().await;
        let client = client_trusting(None).build().expect("a client");
        let base = format!("http://127.0.0.1:{port}/session");
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1280,900",
            // It ends when chromedriver does, however that ends.
            "--remote-debugging-pipe",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "binary": find("chromium"), "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "script": u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX) },
        }}});
        let made = ask(&client, "POST", &base, Some(&wanted)).await;
        let id = made.expect("a session")["sessionId"].clone();
        let session = format!("{base}/{}", id.as_str().expect("its id"));
        let browser = Self {
            _driver: driver,
            client,
            session,
        };
        browser.look(1280, 900, "light").await;
        let domain = json!({ "timeDomain": "threadTicks" });
        browser.tool("Performance.enable", domain).await;
        browser
    }

    /// A screen of this size, in CSS pixels, on a system that is `light` or `dark`.
    pub(crate) async fn look(&self, width: u32, height: u32, colours: &str) {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1,
            "mobile": width < 600 });
        self.tool("Emulation.setDeviceMetricsOverride", screen)
            .await;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": colours }] });
        self.tool("Emulation.setEmulatedMedia", media).await;
    }

    /// A command of the developer tools.
    pub(crate) async fn tool(&self, name: &str, parameters: Value) -> Value {
        let asked = json!({ "cmd": name, "params": parameters });
        self.ask("POST", "/goog/cdp/execute", Some(&asked)).await
    }

    /// Goes to an address, and waits until it is loaded.
    pub(crate) async fn open(&self, url: &str) {
        self.ask("POST", "/url", Some(&json!({ "url": url }))).await;
    }

    /// Runs the body of a function in the page.
    pub(crate) async fn run(&self, script: &str) -> Value {
        let asked = json!({ "script": script, "args": [] });
        self.ask("POST", "/execute/sync", Some(&asked)).await
    }

    /// Waits until the body of a function gives something; a panic with what is on the page if it
    /// never does.
    pub(crate) async fn until(&self, script: &str) -> Value {
        let script = UNTIL.replace("SCRIPT", script);
        let asked = json!({ "script": script, "args": [] });
        let url = format!("{}/execute/async", self.session);
        match ask(&self.client, "POST", &url, Some(&asked)).await {
            Ok(found) => found,
            Err(error) => {
                let shown = self.text("body").await;
                let errors = self.complaints().await;
                panic!("waited in vain: {error}\n{script}\n--- on the page\n{shown}\n{errors:?}")
            }
        }
    }

    /// Waits until this text is on the page, as people see it.
    pub(crate) async fn shows(&self, text: &str) {
        let text = json!(text.replace('\u{a0}', " "));
        let script =
            format!("return document.body.innerText.replaceAll('\\u00a0', ' ').includes({text})");
        self.until(&script).await;
    }

    /// Waits until something is there.
    pub(crate) async fn finds(&self, selector: &str) {
        let selector = json!(selector);
        let script = format!("return !!document.querySelector({selector})");
        self.until(&script).await;
    }

    /// The text of the first that is there, as people see it.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        let script = format!("return document.querySelector({selector})?.innerText ?? ''");
        let text = self.run(&script).await;
        text.as_str().unwrap_or_default().replace('\u{a0}', " ")
    }

    /// Waits for something, and clicks on it with the mouse.
    pub(crate) async fn click(&self, selector: &str) {
        self.tell(selector, "click", &json!({})).await;
    }

    /// Waits for a field, and types into it.
    pub(crate) async fn write(&self, selector: &str, text: &str) {
        self.tell(selector, "value", &json!({ "text": text })).await;
    }

    /// Types, wherever the focus is.
    pub(crate) async fn keys(&self, text: &str) {
        let press = |key: char| {
            let key = key.to_string();
            [
                json!({ "type": "keyDown", "value": key }),
                json!({ "type": "keyUp", "value": key }),
            ]
        };
        let actions: Vec<Value> = text.chars().flat_map(press).collect();
        let asked = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.ask("POST", "/actions", Some(&asked)).await;
    }

    /// Presses a key, wherever the focus is.
    pub(crate) async fn press(&self, key: Key) {
        self.keys(&key.code().to_string()).await;
    }

    /// What the browser complained about since this was last asked: errors of scripts, refused
    /// loads, answers that are errors.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let kind = json!({ "type": "browser" });
        let log = self.ask("POST", "/se/log", Some(&kind)).await;
        let lines = log.as_array().cloned().unwrap_or_default();
        lines
            .iter()
            .filter_map(|line| line["message"].as_str().map(str::to_owned))
            .collect()
    }

    /// The processor time that the page has used since it was opened, to run its scripts, to lay
    /// itself out and to draw itself. What else the machine does is not in it.
    pub(crate) async fn work(&self) -> Duration {
        let metrics = self.tool("Performance.getMetrics", json!({})).await;
        let metrics = metrics["metrics"].as_array().expect("metrics");
        let total = metrics.iter().find(|it| it["name"] == "TaskDuration");
        let seconds = total.and_then(|it| it["value"].as_f64());
        Duration::from_secs_f64(seconds.expect("the duration of all tasks"))
    }

    /// A picture of what the screen shows.
    pub(crate) async fn picture(&self, file: &Path) {
        let picture = self.ask("GET", "/screenshot", None).await;
        let bytes = STANDARD.decode(picture.as_str().expect("base64"));
        std::fs::write(file, bytes.expect("a picture")).expect("a file for it");
    }

    /// Waits for an element, and has something done with it. News may have the page draw it anew in
    /// between: then it is another one, and that is taken.
    async fn tell(&self, selector: &str, what: &str, body: &Value) {
        let how = json!({ "using": "css selector", "value": selector });
        let mut problem = String::new();
        for _ in 0..20 {
            self.finds(selector).await;
            let done = async {
                let url = format!("{}/element", self.session);
                let found = ask(&self.client, "POST", &url, Some(&how)).await?;
                let id = found.as_object().and_then(|found| found.values().next());
                let id = id.and_then(Value::as_str).expect("an element");
                let url = format!("{}/element/{id}/{what}", self.session);
                ask(&self.client, "POST", &url, Some(body)).await
            };
            match done.await {
                Ok(_) => return,
                Err(error)
                    if error.contains("stale element reference")
                        || error.contains("no such element") =>
                {
                    problem = error;
                }
                Err(error) => panic!("{selector}: {what}: {error}"),
            }
        }
        panic!("{selector} does not stay on the page: {problem}");
    }

    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}{path}", self.session);
        let answer = ask(&self.client, method, &url, body).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// One command of the protocol: its value, or what went wrong.
async fn ask(
    client: &reqwest::Client,
    method: &str,
    url: &str,
    body: Option<&Value>,
) -> Result<Value, String> {
    let mut request = client.request(method.parse().expect("a method"), url);
    if let Some(body) = body {
        let json = ("content-type", "application/json");
        request = request.header(json.0, json.1).body(body.to_string());
    }
    let answer = request.send().await.map_err(|error| error.to_string())?;
    let is_success = answer.status().is_success();
    let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let value = answer["value"].clone();
    if is_success {
        return Ok(value);
    }
    Err(format!("{}: {}", value["error"], value["message"]))
}
