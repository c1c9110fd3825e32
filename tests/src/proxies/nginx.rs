//! An nginx of the test's own that ends TLS in front of the server.

use std::path::Path;
use std::time::Duration;

use crate::processes::ports::{free_port, listens};
use crate::processes::process::Process;
use crate::processes::test_dir::TestDir;
use crate::servers::authority::Certificate;
use crate::wait::eventually_blocking;

const PATIENCE: Duration = Duration::from_secs(30);

/// What it does with a client's wish for a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrades {
    /// As docs/NETWORK.md has it.
    Passed,
    /// Forgotten, as in many a configuration: the server sees a plain request.
    Dropped,
    /// Forgotten, and the largest body is nginx's own default of 1 MiB.
    DroppedWithSmallBodies,
}

/// A running reverse proxy.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    port: u16,
}

impl Nginx {
    /// Starts one in front of the server at `server` (`HOST:PORT`).
    ///
    /// # Panics
    /// If nginx is not installed: a missing program fails the tests.
    pub fn start(
        test_dir: &TestDir,
        server: &str,
        certificate: &Certificate,
        upgrades: Upgrades,
    ) -> Self {
        let folder = test_dir.folder("nginx");
        let port = free_port();
        let configuration = folder.join("nginx.conf");
        let text = configured(&folder, port, server, certificate, upgrades);
        std::fs::write(&configuration, text).expect("write the configuration");
        let plain = |path: &Path| path.to_str().expect("plain text").to_owned();
        let (prefix, file) = (plain(&folder), plain(&configuration));
        let args = ["-e", "stderr", "-p", &prefix, "-c", &file];
        let none: [(&str, &str); 0] = [];
        let process = Process::start("nginx", Path::new("nginx"), &args, none, &folder);
        let mut nginx = Self { process, port };
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

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn configured(
    folder: &Path,
    port: u16,
    server: &str,
    certificate: &Certificate,
    upgrades: Upgrades,
) -> String {
    let upgrade = match upgrades {
        Upgrades::Passed => {
            "proxy_set_header Upgrade $http_upgrade;\n\
             proxy_set_header Connection $connection_upgrade;"
        }
        Upgrades::Dropped | Upgrades::DroppedWithSmallBodies => "",
    };
    let max_body = if upgrades == Upgrades::DroppedWithSmallBodies { "1m" } else { "3m" };
    let folder = folder.display();
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    // One process, in front: the harness ends it by its id.
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
           map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
           server {{
             listen 127.0.0.1:{port} ssl;
             ssl_certificate {chain};
             ssl_certificate_key {key};
             client_max_body_size {max_body};
             location / {{
               proxy_pass http://{server};
               proxy_http_version 1.1;
               proxy_set_header Host $host;
               proxy_set_header X-Forwarded-For $remote_addr;
               proxy_set_header X-Forwarded-Proto $scheme;
               {upgrade}
               proxy_read_timeout 120s;
               proxy_buffering off;
             }}
             # As nginx is unless told otherwise: it holds answers back until there is enough.
             location /buffered/ {{
               proxy_pass http://{server}/;
               proxy_http_version 1.1;
               proxy_set_header Host $host;
             }}
           }}
         }}\n"
    )
}
