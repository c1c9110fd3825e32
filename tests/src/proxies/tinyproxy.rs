//! A tinyproxy for one test: a forward proxy as in offices.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::processes::ports::{free_port, listens};
use crate::processes::process::Process;
use crate::processes::test_dir::TestDir;
use crate::wait::eventually_blocking;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running proxy that requires a user name and password, and logs every request.
#[derive(Debug)]
pub struct Tinyproxy {
    process: Process,
    port: u16,
    log: PathBuf,
}

impl Tinyproxy {
    /// The user, whose password is in [`Tinyproxy::url`].
    pub const USER: &str = "office";
    /// Tinyproxy accepts only letters, digits and dashes.
    pub const PASSWORD: &str = "open-sesame";

    /// Starts a proxy that allows connections to any port.
    ///
    /// # Panics
    /// If tinyproxy is not installed: a missing program fails the tests.
    pub fn start(test_dir: &TestDir) -> Self {
        Self::with(test_dir, "")
    }

    /// [`Tinyproxy::start`] with further lines in its configuration.
    pub fn with(test_dir: &TestDir, settings: &str) -> Self {
        let folder = test_dir.folder("tinyproxy");
        // As root it changes to another user, who must be able to write here.
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("chmod");
        let (port, log) = (free_port(), folder.join("requests.log"));
        let configuration = folder.join("tinyproxy.conf");
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 50\nAllow 127.0.0.1\n\
             BasicAuth {} {}\nLogFile \"{}\"\nLogLevel Connect\nDisableViaHeader Yes\n{settings}\n",
            Self::USER,
            Self::PASSWORD,
            log.display(),
        );
        std::fs::write(&configuration, text).expect("write the configuration");
        let args = ["-d", "-c", configuration.to_str().expect("plain text")];
        let none: [(&str, &str); 0] = [];
        let process = Process::start("tinyproxy", Path::new("tinyproxy"), &args, none, &folder);
        let mut proxy = Self { process, port, log };
        let ready = eventually_blocking(PATIENCE, || {
            assert!(proxy.process.status().is_none(), "it ended: {}", proxy.process.log());
            listens(port).then_some(())
        });
        assert!(ready.is_some(), "tinyproxy is not ready: {}", proxy.process.log());
        proxy
    }

    /// The value of `HTTPS_PROXY` and similar variables, with user name and password.
    pub fn url(&self) -> String {
        // A password may be escaped even if that is not necessary.
        self.url_for(&format!("{}:{}", Self::USER, Self::PASSWORD.replace('-', "%2D")))
    }

    /// The same URL with other credentials: `USER:PASSWORD`.
    pub fn url_for(&self, somebody: &str) -> String {
        format!("http://{somebody}@{}", self.address())
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The requests that it received, one line each.
    pub fn requests(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once("Request (file descriptor"));
        lines.filter_map(|(_, rest)| Some(rest.split_once("): ")?.1.to_owned())).collect()
    }

    /// True if it was asked to connect to this address.
    pub fn has_connected_to(&self, address: &str) -> bool {
        self.requests().iter().any(|line| line.starts_with(&format!("CONNECT {address} ")))
    }
}
