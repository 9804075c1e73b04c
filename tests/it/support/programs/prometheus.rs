//! Debian's Prometheus, which reads larder's metrics, and `promtool`.

use std::path::Path;

use serde_json::{Value, json};

use super::daemon::Daemon;
use super::larder::client_trusting;
use super::pebble::free_port;
use super::{Output, command, new_home, run, write};

/// A running Prometheus.
pub(crate) struct Prometheus {
    address: String,
    client: reqwest::Client,
    daemon: Daemon,
}

impl Prometheus {
    /// One that reads `/metrics` at `address` every second, as job `larder`, and follows these
    /// rules.
    pub(crate) async fn scraping(address: &str, rules: &Path) -> Self {
        let home = new_home("prometheus");
        let settings = json!({
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "larder",
                "static_configs": [{ "targets": [address] }],
            }],
        });
        let file = home.path().join("prometheus.yml");
        // JSON is YAML.
        write(&file, &settings.to_string());
        let address = format!("127.0.0.1:{}", free_port());
        let mut prometheus = command("prometheus", home.path());
        prometheus.arg(format!("--config.file={}", file.display()));
        let data = home.path().join("data");
        prometheus.arg(format!("--storage.tsdb.path={}", data.display()));
        prometheus.arg(format!("--web.listen-address={address}"));
        let daemon = Daemon::start("prometheus", prometheus, home);
        let ready = |line: &str| line.contains("ready to receive web requests").then_some(());
        daemon.ready(ready).await;
        Self {
            address,
            client: client_trusting(None).build().expect("a client"),
            daemon,
        }
    }

    /// The `data` of an answer of its API; a panic with the answer if it has none.
    pub(crate) async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = format!("http://{}/api/v1/{path}", self.address);
        let url = url::Url::parse_with_params(&url, parameters).expect("a URL");
        let answer = self.client.get(url.as_str()).send().await;
        let answer = answer.expect("an answer").text().await.expect("its body");
        let parsed: Value = serde_json::from_str(&answer).unwrap_or_default();
        assert_eq!(
            parsed["status"],
            "success",
            "{path} {parameters:?}: {answer}\n{}",
            self.daemon.log()
        );
        parsed["data"].clone()
    }

    /// The values of an expression, now.
    pub(crate) async fn values(&self, expression: &str) -> Vec<f64> {
        let data = self.ask("query", &[("query", expression)]).await;
        let rows = data["result"].as_array().expect("a vector").iter();
        let value = |row: &Value| row["value"][1].as_str().and_then(|text| text.parse().ok());
        rows.map(|row| value(row).expect("a value")).collect()
    }
}

/// Runs `promtool` in a directory.
pub(crate) async fn promtool(directory: &Path, arguments: &[&str]) -> Output {
    promtool_with_input(directory, arguments, b"").await
}

/// The same with something on its standard input.
pub(crate) async fn promtool_with_input(
    directory: &Path,
    arguments: &[&str],
    input: &[u8],
) -> Output {
    let mut promtool = command("promtool", directory);
    promtool.args(arguments);
    run(promtool, input).await
}
