//! The agent of a third party, `third_party_agent.py`, over either transport.

use std::path::Path;

use crate::processes::process::Process;
use crate::processes::test_dir::TestDir;

/// A running third-party agent.
#[derive(Debug)]
pub struct ThirdPartyAgent {
    process: Process,
}

impl ThirdPartyAgent {
    /// Starts it over a WebSocket.
    pub fn over_websocket(test_dir: &TestDir, server_url: &str, key: &str) -> Self {
        Self::start(test_dir, server_url, key, &[])
    }

    /// Starts it over the three HTTP endpoints.
    pub fn over_http(test_dir: &TestDir, server_url: &str, key: &str) -> Self {
        Self::start(test_dir, server_url, key, &["--http"])
    }

    fn start(test_dir: &TestDir, server_url: &str, key: &str, flags: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/third_party_agent.py");
        let args: Vec<&str> = [script].iter().chain(flags).copied().collect();
        let environment = [("SERVER_URL", server_url), ("AGENT_KEY", key)];
        let python = Path::new("python3");
        Self { process: Process::start("third-party", python, &args, environment, test_dir.path()) }
    }

    /// Kills it.
    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }
}
