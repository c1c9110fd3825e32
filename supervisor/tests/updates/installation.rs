//! A program folder with two versions: real supervisors, and agents that are shell scripts. The
//! agent requests the newer version, whose download is simulated by a copy.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::HEXLOWER;
use muster_protocol::release::{Platform, SigningKey};
use serde_json::{Value, json};

use crate::harness::{Harness, Running, eventually};

pub const COMMAND: &str = "01a1fdb4-5130-7149-8191-20f9622b2a14";

/// Common functions of the test agents. The working directory is the test's folder.
const HEAD: &str = r#"
register() {
    printf '{"pid": %s, "version": "%s", "connected_since": "now"}' $$ $version >status.new
    mv status.new "$MUSTER_STATE_DIR/status.json"
}
request() {
    [ -e requested ] || { : >requested; cp request "$MUSTER_STATE_DIR/update_request.json"; exit 43; }
}
if [ "$1" = fetch-release ]; then
    while [ $# -gt 0 ]; do
        case $1 in --into) into=$2 ;; --part) part=$2 ;; esac
        shift
    done
    echo "$part" >>fetched
    [ ! -p gate ] || read -r word <gate
    case $part in
    documents) cp release/release.json release/release.sig release/fetched.json "$into" ;;
    programs) cp -R -P release/bin "$into" ;;
    esac
    exit
fi
[ "$1" = run ] || exit 0
echo "$version runs, trial ${MUSTER_ON_TRIAL:-no}, pid $$"
"#;

/// The agent of 0.1.0: requests an update once, registers and keeps running.
pub const REQUESTS_UPDATE: &str = "request; register; exec sleep 600";
/// A working agent: registers and keeps running.
pub const GOOD: &str = "register; exec sleep 600";
/// An agent that never registers.
pub const SILENT: &str = "exec sleep 600";

pub struct Installation {
    pub harness: Harness,
}

impl Installation {
    /// 0.1.0 is current and its agent runs `old`; the agent of 0.2.0 runs `new`.
    pub fn new(old: &str, new: &str) -> Self {
        let mut harness = Harness::new("exit 99");
        let folder = harness.path("").display().to_string();
        harness.set("MUSTER_AGENT", "").set("MUSTER_DIR", &folder).set("MUSTER_TRIAL_MS", "15000");
        let mut installation = Self { harness };
        for (version, body) in [("0.1.0", old), ("0.2.0", new)] {
            let bin = match version {
                "0.1.0" => installation.path("versions/0.1.0/bin"),
                _ => installation.path("release/bin"),
            };
            fs::create_dir_all(&bin).unwrap();
            let script = format!("version={version}\n{HEAD}\n{body}");
            write_script(&bin.join("muster-agent"), &script);
            place_supervisor(&bin.join("muster-supervisor"));
        }
        symlink("0.1.0", installation.path("versions/current")).unwrap();
        let key = SigningKey::read(&SigningKey::generate().unwrap()).unwrap();
        installation.pin(&key);
        installation.sign(&key);
        let request = json!({"command_id": COMMAND, "version": "0.2.0"});
        fs::write(installation.path("request"), request.to_string()).unwrap();
        installation.run_current(&[]);
        installation
    }

    /// Pins a key.
    pub fn pin(&self, key: &SigningKey) {
        let pin = format!("{}\n", key.public().unwrap().fingerprint());
        fs::write(self.path("release_key"), pin).unwrap();
    }

    /// Signs the files in the release's folder, as 0.2.0.
    pub fn sign(&self, key: &SigningKey) {
        self.sign_as(key, "0.2.0", "0.0.1");
    }

    /// Signs the files in the release's folder as this version with this floor.
    pub fn sign_as(&self, key: &SigningKey, version: &str, floor: &str) {
        let file = |name: &str| {
            let bytes = fs::read(self.path("release/bin").join(name)).unwrap();
            let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
            json!({"name": name, "bytes": bytes.len(), "sha256": HEXLOWER.encode(digest.as_ref())})
        };
        let platform = Platform::own().unwrap().to_string();
        let descriptor = json!({
            "format": 1, "version": version, "floor": floor, "created_at": "",
            "targets": {platform: [file("muster-agent"), file("muster-supervisor")]},
        });
        let document = descriptor.to_string();
        let signature = serde_json::to_string(&key.sign(document.as_bytes()).unwrap()).unwrap();
        fs::write(self.path("release/release.json"), document).unwrap();
        fs::write(self.path("release/release.sig"), signature).unwrap();
        fs::write(self.path("release/fetched.json"), r#"{"is_transport_verified": true}"#).unwrap();
    }

    /// Starts the current supervisor like the service manager does, with these arguments after
    /// `run`.
    pub fn run_current(&mut self, args: &[&str]) {
        let mut command = Command::new(self.path("versions/current/bin/muster-supervisor"));
        command.arg("run").args(args);
        self.harness.run_instead(command);
    }

    /// Puts 0.2.0 on trial, in the state that a power cut leaves.
    pub fn leave_on_trial(&self) {
        let release = self.path("release");
        fs::create_dir(self.path("versions/0.2.0")).unwrap();
        fs::rename(release.join("bin"), self.path("versions/0.2.0/bin")).unwrap();
        let trial = json!({
            "command_id": COMMAND, "from": "0.1.0", "to": "0.2.0", "phase": "on_trial",
        });
        fs::write(self.path("trial.json"), trial.to_string()).unwrap();
        fs::write(self.path("requested"), "").unwrap();
        fs::copy(self.path("request"), self.path("state/update_request.json")).unwrap();
    }

    pub fn start(&mut self) -> Running {
        self.harness.start()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.harness.path(name)
    }

    pub fn current(&self) -> String {
        let link = fs::read_link(self.path("versions/current")).unwrap();
        link.to_str().unwrap().to_owned()
    }

    pub fn set_current(&self, version: &str) {
        fs::remove_file(self.path("versions/current")).unwrap();
        symlink(version, self.path("versions/current")).unwrap();
    }

    /// Blocks writing a file of this name.
    pub fn block(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.join("in the way")).unwrap();
        path
    }

    pub fn json(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.path(name)).ok()?).ok()
    }

    /// The update result, once it is written.
    pub fn result(&self) -> Value {
        eventually("there is a result", || self.json("state/update_result.json"))
    }

    /// Waits for this result and the end of the update.
    pub fn expect_result(&self, outcome: &str, code: &str, version: &str) {
        let result = self.result();
        assert_eq!(result["outcome"], outcome, "{result}");
        assert_eq!(result["code"].as_str().unwrap_or_default(), code, "{result}");
        assert_eq!(result["command_id"], COMMAND, "{result}");
        eventually("the trial is over", || (!self.path("trial.json").exists()).then_some(()));
        assert_eq!(self.current(), version, "{result}");
    }

    /// The parts of a release that were downloaded.
    pub fn fetched(&self) -> String {
        fs::read_to_string(self.path("fetched")).unwrap_or_default()
    }

    /// True if a download folder exists.
    pub fn has_staging(&self) -> bool {
        fs::read_dir(self.path("")).unwrap().flatten().any(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(".release-"))
        })
    }
}

impl Running {
    /// Expects that the next agent has this version; returns its process.
    pub fn runs(&mut self, version: &str) -> nix::unistd::Pid {
        let line = self.line();
        assert!(line.starts_with(&format!("{version} runs, ")), "expected {version}, got {line:?}");
        crate::harness::one_process(line.rsplit(' ').next().unwrap())
    }

    pub fn stop(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.ended();
    }

    /// Kills it like a power cut; its agent dies with it.
    pub fn kill_9(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGKILL);
        self.ended();
    }
}

pub fn write_script(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn place_supervisor(path: &Path) {
    let program = env!("CARGO_BIN_EXE_muster-supervisor");
    // The folder may be on another file system.
    fs::hard_link(program, path).or_else(|_| fs::copy(program, path).map(|_| ())).unwrap();
}
