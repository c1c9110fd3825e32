//! The dashboard: its files as the server sends them, and all of it in Debian's Chromium with real agents.
//! The browser's part is in `web/tests`.

mod story;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use muster_tests::{Fixture, repository};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING};
use reqwest::{Client, Response};

use self::story::Story;

const PAGE: &str = "text/html,application/xhtml+xml,*/*;q=0.8";
/// The specs of each browser. Each browser has a server of its own, so that they run beside each other.
const PEOPLE: [&str; 6] =
    ["dashboard", "history", "manage", "passkeys", "second-factor", "run-options"];
const LIBRARY: [&str; 5] = ["files", "packages", "screens", "storage", "tasks-and-retries"];
/// On a server that ends TLS itself.
const TLS: [&str; 1] = ["authority"];
const WORK: [&str; 4] = ["operate", "performance", "schedules-and-alerts", "steps-and-services"];

async fn get(fixture: &Fixture, path: &str, accept: &str) -> Response {
    let client = Client::builder().no_proxy().build().expect("make a client");
    let request = client.get(format!("{}{path}", fixture.server.url()));
    let request = request.header(ACCEPT, accept).header(ACCEPT_ENCODING, "gzip");
    request.send().await.expect("reach the server")
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

fn built() -> PathBuf {
    let dist = repository().join("web/dist");
    assert!(dist.join("index.html").is_file(), "the dashboard is not built: run `make web`");
    dist
}

#[tokio::test]
async fn dashboard_is_sent_to_browsers_only_and_its_files_are_kept() {
    let dist = built();
    let fixture = Fixture::on_sqlite().await;
    for path in ["/", "/fleet", "/jobs/01a1fdaf-2ceb-7398-a560-fef62154c108"] {
        let page = get(&fixture, path, PAGE).await;
        assert_eq!(page.status().as_u16(), 200, "{path}");
        assert_eq!(header(&page, "content-type"), "text/html; charset=utf-8");
        assert_eq!(header(&page, "cache-control"), "no-cache");
        assert_eq!(header(&page, CONTENT_ENCODING.as_str()), "gzip");
        let policy = header(&page, "content-security-policy");
        for rule in
            ["default-src 'none'", "script-src 'self';", "require-trusted-types-for 'script'"]
        {
            assert!(policy.contains(rule), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
    }
    // A page that the browser has is not sent again.
    let page = get(&fixture, "/", PAGE).await;
    let client = Client::builder().no_proxy().build().expect("make a client");
    let again =
        client.get(fixture.server.url()).header(ACCEPT, PAGE).header(ACCEPT_ENCODING, "gzip");
    let again =
        again.header("if-none-match", header(&page, "etag")).send().await.expect("reach it");
    assert_eq!(again.status().as_u16(), 304);

    let text = fs::read_to_string(dist.join("index.html")).expect("the page");
    assert!(!text.contains("<style") && !text.contains("<script>"), "{text}");
    let asset = text.split('"').find(|part| part.starts_with("/assets/")).expect("an asset");
    let sent = get(&fixture, asset, "*/*").await;
    assert_eq!(header(&sent, "cache-control"), "public, max-age=31536000, immutable");

    // Programs, and wrong addresses of the API, get what they always got.
    for (path, accept) in
        [("/fleet", "*/*"), ("/api/nothing", PAGE), ("/api", PAGE), ("/assets/nothing.js", PAGE)]
    {
        let refused = get(&fixture, path, accept).await;
        assert_eq!(refused.status().as_u16(), 404, "{path}");
        assert_eq!(header(&refused, "content-type"), "application/problem+json", "{path}");
    }
}

#[tokio::test]
async fn people_set_up_run_watch_and_approve_in_a_browser() {
    built();
    Story::new().await.show(&PEOPLE).await;
}

#[tokio::test]
async fn people_write_scripts_and_upload_packages_in_a_browser() {
    built();
    Story::with_owner().await.show(&LIBRARY).await;
}

#[tokio::test]
async fn people_schedule_work_and_watch_services_in_a_browser() {
    built();
    Story::with_owner().await.show(&WORK).await;
}

#[tokio::test]
async fn people_see_the_rollover_of_the_authority_in_a_browser() {
    built();
    Story::issuing().await.show(&TLS).await;
}

#[test]
fn every_spec_of_the_dashboard_is_run_by_one_test() {
    let specs = fs::read_dir(repository().join("web/tests")).expect("the specs");
    let specs = specs.map(|entry| entry.expect("an entry").file_name());
    let specs = specs.filter_map(|name| Some(name.to_str()?.strip_suffix(".spec.ts")?.to_owned()));
    let run: Vec<&str> = [&PEOPLE[..], &LIBRARY, &WORK, &TLS].concat();
    assert_eq!(run.len(), run.iter().collect::<BTreeSet<_>>().len(), "a spec is run twice");
    let run: BTreeSet<String> = run.into_iter().map(str::to_owned).collect();
    assert_eq!(specs.collect::<BTreeSet<_>>(), run);
}
