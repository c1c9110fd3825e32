//! The whole of single sign-on with a provider of another project: `oidc-provider`.

use std::collections::BTreeMap;
use std::path::Path;

use muster_tests::{
    ATTEMPT_COOKIE, ApiResponse, CLIENT_SECRET, Fixture, JsonFields as _, Process, ServerOptions,
    cookie_of, eventually, free_port, repository, signed_in, test_tools,
};
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use serde_json::json;

/// A browser with its cookies, which are the same for all paths.
struct Browser {
    client: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    fn new() -> Self {
        let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build();
        Self { client: client.expect("make a client"), cookies: BTreeMap::new() }
    }

    /// One request. Returns the answer, and where it sends the browser.
    async fn request(
        &mut self,
        method: Method,
        url: &Url,
        form: &str,
    ) -> (ApiResponse, Option<Url>) {
        let cookies = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let mut request = self.client.request(method.clone(), url.clone());
        request = request.header("cookie", cookies.collect::<Vec<_>>().join("; "));
        if method == Method::POST {
            request = request.header("content-type", "application/x-www-form-urlencoded");
            request = request.body(form.to_owned());
        }
        let response = request.send().await.expect("reach the server");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        for set in headers.get_all("set-cookie") {
            let pair = set.to_str().expect("text").split(';').next().expect("a pair");
            let (name, value) = pair.split_once('=').expect("a pair");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        let next = headers.get("location").and_then(|value| value.to_str().ok());
        let next = next.map(|location| url.join(location).expect("an address"));
        let bytes = response.bytes().await.expect("a body").to_vec();
        (ApiResponse { status, headers, bytes }, next)
    }

    /// Signs in at the provider as this person and agrees. Returns where it sends the browser back to.
    async fn sign_in_at_provider(&mut self, location: &str, login: &str, back: &str) -> Url {
        let mut url = Url::parse(location).expect("an address");
        for _ in 0..10 {
            if url.as_str().starts_with(back) {
                return url;
            }
            let (answer, next) = self.request(Method::GET, &url, "").await;
            let Some(next) = next else {
                let page = String::from_utf8_lossy(&answer.bytes).into_owned();
                assert_eq!(answer.status, 200, "{url}: {page}");
                let form = match page.contains("name=\"login\"") {
                    true => format!("prompt=login&login={login}&password=x"),
                    false => "prompt=consent".to_owned(),
                };
                let (answer, next) = self.request(Method::POST, &url, &form).await;
                let page = String::from_utf8_lossy(&answer.bytes).into_owned();
                url = next.unwrap_or_else(|| panic!("{url}: {page}"));
                continue;
            };
            url = next;
        }
        panic!("the provider does not send the browser back: {url}");
    }
}

async fn start_provider(folder: &Path, port: u16, redirect: &str) -> Process {
    let tools = test_tools("node");
    std::os::unix::fs::symlink(tools.join("node_modules"), folder.join("node_modules"))
        .expect("link the modules");
    let script = folder.join("identity_provider.mjs");
    std::fs::copy(repository().join("tests/tools/identity_provider.mjs"), &script).expect("copy");
    let port = port.to_string();
    let args = [script.to_str().expect("text"), &port, redirect, CLIENT_SECRET];
    let environment: [(&str, &str); 0] = [];
    let process = Process::start("provider", Path::new("node"), &args, environment, folder);
    eventually("the provider is ready", async || process.log().contains("ready").then_some(()))
        .await;
    process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn person_signs_in_with_a_provider_of_another_project() {
    let mut fixture = Fixture::on_sqlite().await;
    let (port, folder) = (free_port(), fixture.test_dir.folder("provider"));
    let back = format!("{}/api/auth/oidc/corp/callback", fixture.server.url());
    let _provider = start_provider(&folder, port, &back).await;
    let secret = folder.join("secret");
    std::fs::write(&secret, CLIENT_SECRET).expect("write the secret");
    let tenant = fixture.api.get("/api/tenant").await.expect(200);
    let settings = format!(
        "[[oidc_provider]]\nname = \"corp\"\nissuer = \"http://127.0.0.1:{port}\"\nclient_id = \"muster\"\n\
         client_secret_file = \"{}\"\nallow_private = true\ntenant_id = \"{}\"\n\
         [oidc_provider.roles]\nstaff = \"admin\"\n",
        secret.display(),
        tenant.id()
    );
    let file = folder.join("settings.toml");
    std::fs::write(&file, settings).expect("write the settings");
    fixture.server.stop();
    fixture.server.resume_with(ServerOptions::default().with("MUSTER_CONFIG", file.display()));

    let start = format!("{}/api/auth/oidc/corp/start?return_to=/agents", fixture.server.url());
    let start = Url::parse(&start).expect("an address");
    let mut browser = Browser::new();
    let (begun, location) = browser.request(Method::GET, &start, "").await;
    assert_eq!(begun.status, 303);
    assert!(cookie_of(&begun, ATTEMPT_COOKIE).is_some());
    let location = location.expect("the provider");
    let returned = browser.sign_in_at_provider(location.as_str(), "grace", &back).await;
    assert!(returned.query_pairs().any(|(name, _)| name == "iss"), "{returned}");
    let (answer, next) = browser.request(Method::GET, &returned, "").await;
    let me = signed_in(&fixture, &answer).get("/api/me").await.expect(200);
    assert_eq!((me.text("name"), me.text("role")), ("grace", "admin"));
    assert_eq!(next.expect("a path").path(), "/agents");

    // The same code again: this browser's cookie is gone, and a copy of it does not help.
    let (replayed, _) = browser.request(Method::GET, &returned, "").await;
    replayed.expect_problem(401, "invalid_state");
    browser.cookies.insert(
        ATTEMPT_COOKIE.to_owned(),
        cookie_of(&begun, ATTEMPT_COOKIE)
            .expect("a cookie")
            .split_once('=')
            .expect("a pair")
            .1
            .to_owned(),
    );
    let (replayed, _) = browser.request(Method::GET, &returned, "").await;
    replayed.expect_problem(401, "provider_refused");

    // A code that has expired: the provider keeps it for two seconds.
    let (_, location) = browser.request(Method::GET, &start, "").await;
    let location = location.expect("the provider");
    let late = browser.sign_in_at_provider(location.as_str(), "grace", &back).await;
    let issued_at = std::time::Instant::now();
    eventually("the code has expired", async || (issued_at.elapsed().as_secs() >= 3).then_some(()))
        .await;
    let (refused, _) = browser.request(Method::GET, &late, "").await;
    refused.expect_problem(401, "provider_refused");
    let people = fixture.api.get("/api/members").await.expect(200);
    assert_eq!(people["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(people["items"][0]["email"], json!("grace@example.com"));
}
