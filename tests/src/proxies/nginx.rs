//! An nginx for one test, which ends TLS in front of the server.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::processes::ports::{free_port, listens};
use crate::processes::process::Process;
use crate::processes::test_dir::TestDir;
use crate::servers::authority::Certificate;
use crate::wait::eventually_blocking;

const PATIENCE: Duration = Duration::from_secs(30);

/// How it handles WebSocket upgrades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrades {
    /// As in docs/SERVER.md.
    Passed,
    /// Not configured, as is common: the server gets a plain request.
    Dropped,
    /// Not configured, and the largest body is nginx's own default.
    DroppedWithSmallBodies,
}

/// A running reverse proxy.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    port: u16,
    buffered: u16,
}

impl Nginx {
    /// Starts nginx in front of the server at `server` (`HOST:PORT`).
    ///
    /// # Panics
    /// If nginx is not installed: a missing program fails the tests.
    pub fn start(
        test_dir: &TestDir,
        server: &str,
        certificate: &Certificate,
        upgrades: Upgrades,
    ) -> Self {
        Self::start_on(free_port(), test_dir, server, certificate, upgrades)
    }

    /// [`Nginx::start`], on a port that the server was told before it was started.
    ///
    /// # Panics
    /// As [`Nginx::start`].
    pub fn start_on(
        port: u16,
        test_dir: &TestDir,
        server: &str,
        certificate: &Certificate,
        upgrades: Upgrades,
    ) -> Self {
        let folder = test_dir.folder("nginx");
        let buffered = free_port();
        let configuration = folder.join("nginx.conf");
        let text = configured(&folder, [port, buffered], server, certificate, upgrades);
        std::fs::write(&configuration, text).expect("write the configuration");
        let plain = |path: &Path| path.to_str().expect("plain text").to_owned();
        let (prefix, file) = (plain(&folder), plain(&configuration));
        let is_installed = Command::new("nginx").arg("-v").output().is_ok();
        assert!(
            is_installed,
            "nginx is missing: run scripts/install-test-tools.sh, or install nginx-light"
        );
        let args = ["-e", "stderr", "-p", &prefix, "-c", &file];
        let none: [(&str, &str); 0] = [];
        let process = Process::start("nginx", Path::new("nginx"), &args, none, &folder);
        let mut nginx = Self { process, port, buffered };
        let ready = eventually_blocking(PATIENCE, || {
            assert!(nginx.process.status().is_none(), "nginx ended: {}", nginx.process.log());
            listens(port).then_some(())
        });
        assert!(ready.is_some(), "nginx is not ready: {}", nginx.process.log());
        nginx
    }

    /// `https://HOST:PORT`, under one of the names of this host.
    pub fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.port)
    }

    /// [`Nginx::url`], of the part that buffers answers.
    pub fn buffering_url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.buffered)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// The block of docs/SERVER.md as a reader copies it. Only the addresses and files are this test's.
fn documented_block(port: u16, server: &str, certificate: &Certificate) -> String {
    let page = include_str!("../../../docs/SERVER.md");
    let block = page.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next());
    let mut block = block.expect("docs/SERVER.md has a block for nginx").to_owned();
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    let folder = "/etc/letsencrypt/live/muster.example";
    for (documented, here) in [
        ("listen 443 ssl;".to_owned(), format!("listen 127.0.0.1:{port} ssl;")),
        ("server_name muster.example;".to_owned(), "server_name localhost;".to_owned()),
        (format!("{folder}/fullchain.pem;"), format!("{chain};")),
        (format!("{folder}/privkey.pem;"), format!("{key};")),
        ("server 127.0.0.1:8080;".to_owned(), format!("server {server};")),
    ] {
        assert_eq!(block.matches(&documented).count(), 1, "{documented} in docs/SERVER.md");
        block = block.replace(&documented, &here);
    }
    block
}

fn configured(
    folder: &Path,
    ports: [u16; 2],
    server: &str,
    certificate: &Certificate,
    upgrades: Upgrades,
) -> String {
    let [port, buffered] = ports;
    let mut block = documented_block(port, server, certificate);
    if upgrades != Upgrades::Passed {
        let is_about_upgrades = |line: &str| {
            line.contains("proxy_set_header Upgrade")
                || line.contains("proxy_set_header Connection")
                || (upgrades == Upgrades::DroppedWithSmallBodies
                    && line.contains("client_max_body_size"))
        };
        let kept = block.lines().filter(|line| !is_about_upgrades(line));
        block = kept.collect::<Vec<_>>().join("\n");
    }
    let folder = folder.display();
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    // One process in the foreground, which the harness ends by its id.
    format!(
        "daemon off;
         master_process off;
         pid {folder}/nginx.pid;
         events {{ worker_connections 256; }}
         http {{
           access_log {folder}/access.log;
           client_body_temp_path {folder}/body;
           proxy_temp_path {folder}/proxy;
           fastcgi_temp_path {folder}/fastcgi;
           uwsgi_temp_path {folder}/uwsgi;
           scgi_temp_path {folder}/scgi;
           {block}
           # As nginx is unless told otherwise: it holds answers back until there is enough.
           server {{
             listen 127.0.0.1:{buffered} ssl;
             ssl_certificate {chain};
             ssl_certificate_key {key};
             location / {{
               proxy_pass http://{server};
               proxy_http_version 1.1;
               proxy_set_header Host $host;
             }}
           }}
         }}\n"
    )
}
