//! Debian's Prometheus reads larder's page and follows its rules.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::busy;
use super::names::of_the_dashboard;
use crate::support::programs::{Prometheus, promtool, promtool_with_input};
use crate::support::until::until;

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.yml")
}

/// An expression of the dashboard as Grafana sends it.
fn filled_in(expression: &str) -> String {
    let variables = [
        ("$__rate_interval", "1m"),
        ("$__range", "1h"),
        ("$instance", ".*"),
        ("$job", "larder"),
    ];
    let fill = |text: String, (name, value): (&str, &str)| text.replace(name, value);
    let filled = variables.into_iter().fold(expression.to_owned(), fill);
    assert!(!filled.contains('$'), "{expression}");
    filled
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_reads_the_page_and_finds_what_happened() {
    let (larder, _hub, _receiver, image) = busy().await;
    let prometheus = Prometheus::scraping(larder.address(), &rules()).await;
    until("Prometheus has read the page", async || {
        prometheus.values("up{job=\"larder\"}").await == [1.0]
    })
    .await;
    let blobs = f64::from(u32::try_from(image.blobs().len()).unwrap());
    for (expression, value) in [
        (
            "larder_pulls_total{upstream=\"docker.io\", type=\"blob\", outcome=\"miss\"}",
            blobs,
        ),
        (
            "sum(registry_proxy_requests_total{type=\"blob\"})",
            2.0 * blobs,
        ),
        ("larder_upstream_pulls_remaining", 76.0),
        ("larder_upstream_up", 1.0),
        (
            "registry_http_requests_total{handler=\"manifest\", code=\"404\", method=\"get\"}",
            1.0,
        ),
        ("sum(larder_fills_total{result=\"stored\"})", blobs),
    ] {
        assert_eq!(prometheus.values(expression).await, [value], "{expression}");
    }
    // It knows what kind each is.
    let metadata = prometheus.ask("metadata", &[]).await;
    let kind = |name: &str| metadata[name][0]["type"].clone();
    assert_eq!(kind("larder_fills_running"), "gauge");
    assert_eq!(kind("registry_http_request_duration_seconds"), "histogram");
    // What the dashboard asks is understood, and what needs no time has an answer.
    for (title, expression) in of_the_dashboard() {
        let filled = filled_in(&expression);
        let values = prometheus.values(&filled).await;
        let needs_time = ["rate(", "increase(", "histogram_quantile("];
        if !needs_time.iter().any(|it| filled.contains(it)) && !filled.contains("mirrored") {
            assert!(!values.is_empty(), "{title}: {filled}");
        }
    }
    until("the rules have been followed", async || {
        let followed = prometheus.ask("rules", &[]).await;
        let rules = followed["groups"][0]["rules"].as_array().unwrap().clone();
        let is_ok = |rule: &Value| {
            assert_ne!(rule["health"], "err", "{rule}");
            rule["health"] == "ok"
        };
        !rules.is_empty() && rules.iter().all(is_ok)
    })
    .await;
    let firing = prometheus.values("ALERTS{alertstate=\"firing\"}").await;
    assert!(firing.is_empty(), "{firing:?}");
    larder.finish().await;
}

/// What happens, and which alert comes of it.
const ALERTS: &str = r#"
rule_files: [ RULES ]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - { series: 'up{job="larder", instance="l"}', values: '0x20' }
      - { series: 'larder_upstream_up{instance="l", upstream="docker.io"}', values: '1x5 0x20' }
      - { series: 'larder_upstream_limited{instance="l", upstream="docker.io"}', values: '1x20' }
      - { series: 'larder_upstream_pulls_limit{instance="l", upstream="docker.io"}', values: '100x20' }
      - { series: 'larder_upstream_pulls_remaining{instance="l", upstream="docker.io"}', values: '9x20' }
      - { series: 'larder_disk_size_bytes{instance="l"}', values: '1000x20' }
      - { series: 'larder_disk_free_bytes{instance="l"}', values: '40x20' }
      - { series: 'larder_pushes_refused_total{instance="l"}', values: '0x10 1x20' }
      - { series: 'larder_health_up{instance="l"}', values: '0x20' }
      - { series: 'registry_http_requests_total{instance="l", handler="blob", code="200", method="get"}', values: '0+90x20' }
      - { series: 'registry_http_requests_total{instance="l", handler="blob", code="502", method="get"}', values: '0+10x20' }
    alert_rule_test:
      - { eval_time: 5m, alertname: LarderUpstreamDown, exp_alerts: [] }
      - { eval_time: 9m, alertname: LarderPushesRefused, exp_alerts: [] }
      - eval_time: 15m
        alertname: LarderUpstreamDown
        exp_alerts:
          - exp_labels: { severity: warning, instance: l, upstream: docker.io }
            exp_annotations:
              summary: docker.io does not answer l
              description: "What is cached is served, marked stale; what is not cannot be had. `larder ls --upstreams` says why."
      - eval_time: 15m
        alertname: LarderPullsRunningOut
        exp_alerts:
          - exp_labels: { severity: warning, instance: l, upstream: docker.io }
            exp_annotations:
              summary: docker.io allows 9 more pulls to l
              description: "Each manifest that is not cached costs one. A login raises Docker Hub's limit."
      - eval_time: 15m
        alertname: LarderDiskAlmostFull
        exp_alerts:
          - exp_labels: { severity: warning, instance: l }
            exp_annotations:
              summary: the disk of l has 40B left
              description: Mirrors are evicted by themselves; something else grows, or what was pushed does.
      - eval_time: 15m
        alertname: LarderServerErrors
        exp_alerts:
          - exp_labels: { severity: warning, instance: l }
            exp_annotations:
              summary: more than 5 % of the answers of l are server errors
              description: "502 and 504 come from upstreams, 500 from larder or its disk: the log has the causes."
    promql_expr_test:
      - expr: count by (alertname) (ALERTS{alertstate="firing"})
        eval_time: 15m
        exp_samples:
          - { labels: '{alertname="LarderDiskAlmostFull"}', value: 1 }
          - { labels: '{alertname="LarderDown"}', value: 1 }
          - { labels: '{alertname="LarderPullsRunningOut"}', value: 1 }
          - { labels: '{alertname="LarderPushesRefused"}', value: 1 }
          - { labels: '{alertname="LarderServerErrors"}', value: 1 }
          - { labels: '{alertname="LarderUnhealthy"}', value: 1 }
          - { labels: '{alertname="LarderUpstreamDown"}', value: 1 }
          - { labels: '{alertname="LarderUpstreamLimited"}', value: 1 }
"#;

/// Prometheus's older text, as old readers ask for it.
#[tokio::test(flavor = "multi_thread")]
async fn promtool_reads_the_older_text_and_finds_only_distributions_name_odd() {
    let (larder, ..) = busy().await;
    // From then on both pages know the same.
    larder.logged("counted what mirrors hold").await;
    let ask = async |accept: &str| {
        let request = larder.request("GET", "/metrics").header("accept", accept);
        let answer = larder.send(request).await;
        assert_eq!((answer.status, answer.header("vary")), (200, "accept"));
        answer
    };
    let answer = ask("text/plain;version=0.0.4;q=1,*/*;q=0.1").await;
    let kind = answer.header("content-type");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let home = tempfile::tempdir().unwrap();
    let said = promtool_with_input(home.path(), &["check", "metrics"], &answer.body).await;
    // Distribution calls a gauge so. Were there another complaint, or none, it would be seen here.
    let odd = r#"registry_notifications_pending_total non-counter metrics should not have "_total" suffix"#;
    assert_eq!((said.stdout.trim(), said.stderr.trim()), ("", odd));
    // Both formats have the same families, and the same names of samples.
    let names = |text: &[u8], end: &str| {
        let text = String::from_utf8(text.to_vec()).unwrap();
        let families = text.lines().filter_map(|line| {
            let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            let end = if kind == "counter" { end } else { "" };
            Some(format!("{name}{end} {kind}"))
        });
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| line.split(['{', ' ']).next());
        let samples: BTreeSet<String> = samples.map(str::to_owned).collect();
        (families.collect::<Vec<_>>(), samples)
    };
    let open = ask("application/openmetrics-text;q=0.5,text/plain").await;
    assert_eq!(names(&answer.body, ""), names(&open.body, "_total"));
    larder.finish().await;
}

#[tokio::test]
async fn the_rules_are_rules_and_alert_when_they_should() {
    let (home, rules) = (tempfile::tempdir().unwrap(), rules().display().to_string());
    let checked = promtool(home.path(), &["check", "rules", &rules]).await;
    let said = checked.expect_success();
    assert!(said.contains("14 rules found"), "{said}");
    let test = home.path().join("test.yml");
    std::fs::write(&test, ALERTS.replace("RULES", &rules)).unwrap();
    let tested = promtool(home.path(), &["test", "rules", "test.yml"]).await;
    let _said = tested.expect_success();
}
