//! The dashboard and the alert rules in `deploy/`, with the Prometheus of Debian and a real server.

use std::path::Path;

use muster_tests::{Fixture, Process, eventually, repository, run_tool};
use serde_json::{Value, json};

/// A running Prometheus.
struct Prometheus {
    _process: Process,
    base: String,
}

impl Prometheus {
    /// Scrapes the server every second, with the rules of `deploy/`.
    async fn start(fixture: &Fixture) -> Self {
        let folder = fixture.test_dir.path();
        let rules = repository().join("deploy/prometheus/muster.rules.yml");
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [rules],
            "scrape_configs": [{
                "job_name": "muster",
                "authorization": {"credentials": fixture.api.key()},
                "static_configs": [{"targets": [fixture.server.address()]}],
            }],
        });
        // JSON is YAML.
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config.to_string()).expect("write the configuration");
        run_tool(
            "promtool".as_ref(),
            &["check", "config", file.to_str().expect("text")],
            &[],
            folder,
        );
        let data = folder.join("prometheus-data");
        let data = format!("--storage.tsdb.path={}", data.display());
        let args = ["--config.file=prometheus.yml", "--web.listen-address=127.0.0.1:0", &data];
        let environment: [(&str, &str); 0] = [];
        let process =
            Process::start("prometheus", Path::new("prometheus"), &args, environment, folder);
        let base = eventually("Prometheus listens", async || {
            let log = process.log();
            let line = log.lines().find(|line| line.contains("msg=\"Listening on\""))?;
            let address = line.split("address=").nth(1)?.split(' ').next()?;
            Some(format!("http://{address}"))
        })
        .await;
        // It listens before it answers queries.
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        eventually("Prometheus is ready", async || {
            let answer = client.get(format!("{base}/-/ready")).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        Self { _process: process, base }
    }

    async fn get(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let url = format!("{}{path}", self.base);
        let url = reqwest::Url::parse_with_params(&url, params).expect("a URL");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let text = client.get(url).send().await.expect("an answer").text().await.expect("a body");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The result of an expression.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let answer = self.get("/api/v1/query", &[("query", expression)]).await;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().expect("a list").clone()
    }
}

/// The names of metrics in an expression.
fn metrics_of(expression: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression.split(move |c| !is_name(c)).filter(|word| word.starts_with("muster_"))
}

fn expressions(document: &Value) -> Vec<String> {
    match document {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match (name.as_str(), value) {
                ("expr", Value::String(expression)) => vec![expression.clone()],
                _ => expressions(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

#[tokio::test]
async fn prometheus_evaluates_every_alert_and_every_panel() {
    let fixture = Fixture::on_sqlite().await;
    let prometheus = Prometheus::start(&fixture).await;
    eventually("the server is scraped", async || {
        (!prometheus.query("up{job=\"muster\"} == 1").await.is_empty()).then_some(())
    })
    .await;
    let rules = eventually("every rule is evaluated", async || {
        let rules = prometheus.get("/api/v1/rules", &[]).await;
        let rules = rules["data"]["groups"][0]["rules"].as_array()?.clone();
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    })
    .await;
    assert!(rules.len() >= 11, "{rules:#?}");
    let dashboard = repository().join("deploy/grafana/muster.json");
    let dashboard = std::fs::read(dashboard).expect("read the dashboard");
    let dashboard: Value = serde_json::from_slice(&dashboard).expect("JSON");
    let panels = expressions(&dashboard);
    assert!(panels.len() >= 20, "{panels:?}");
    let known = fixture.api.get("/metrics").await;
    let known = String::from_utf8(known.bytes).expect("UTF-8");
    let of_rules = rules.iter().filter_map(|rule| rule["query"].as_str()).map(str::to_owned);
    for expression in panels.into_iter().chain(of_rules) {
        let concrete = expression.replace("$__rate_interval", "1m").replace("$instance", ".+");
        prometheus.query(&concrete).await;
        for metric in metrics_of(&expression) {
            let is_there = known.lines().any(|line| {
                line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']))
            });
            assert!(is_there, "{metric} of {expression} is not in /metrics");
        }
    }
}

#[test]
fn every_alert_is_raised_by_its_fault_and_not_without_it() {
    let folder = repository().join("deploy/prometheus");
    let run = |args: &[&str]| run_tool("promtool".as_ref(), args, &[], &folder);
    run(&["check", "rules", "muster.rules.yml"]);
    run(&["test", "rules", "muster.rules.test.yml"]);
    run(&["check", "config", "--syntax-only", "prometheus.example.yml"]);
}

#[tokio::test]
async fn metrics_in_the_classic_format_pass_promtool() {
    let fixture = Fixture::on_sqlite().await;
    let classic = [("accept", "text/plain")];
    let get = async |headers: &[(&str, &str)]| {
        let method = reqwest::Method::GET;
        fixture.api.try_send(method, "/metrics", headers, None).await.expect("an answer")
    };
    // The first answer is counted in the second.
    get(&[]).await;
    let answer = get(&classic).await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(answer.bytes).expect("UTF-8");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    let file = fixture.test_dir.path().join("metrics.txt");
    std::fs::write(&file, &text).expect("write");
    let args = ["-c", "promtool check metrics <metrics.txt"];
    let report = run_tool("sh".as_ref(), &args, &[], fixture.test_dir.path());
    assert_eq!(report.trim(), "", "promtool has nothing to say");
    for start in [
        "muster_commands_ended_total{state=\"lost\"} 0",
        "muster_webhook_attempts_total{result=\"gone\"} 0",
        "muster_http_responses_total{class=\"5xx\"} 0",
        "muster_build_info{version=\"",
        "muster_http_request_duration_seconds_bucket{le=\"0.0025\"",
        "muster_http_request_duration_seconds_bucket{le=\"60.0\"",
    ] {
        assert!(text.contains(start), "{start}\n{text}");
    }
    for (metric, least) in [
        ("muster_process_start_time_seconds", 1.7e9),
        ("muster_process_open_fds", 10.0),
        ("muster_process_max_fds", 100.0),
        ("muster_disk_free_bytes", 1e6),
        ("muster_database_size_bytes", 1e4),
    ] {
        let value = text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        let value: f64 =
            value.unwrap_or_else(|| panic!("{metric} is missing")).parse().expect("a number");
        assert!(value >= least, "{metric} {value}");
    }
}
