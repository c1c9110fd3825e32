//! A program folder with two versions: real supervisors, and agents that are shell scripts. The
//! newer one is wished for, and lies where a download would bring it from.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use data_encoding::HEXLOWER;
use muster_protocol::release::{Platform, SigningKey};
use serde_json::{Value, json};

use crate::harness::{Harness, Running, eventually};

pub const COMMAND: &str = "01a1fdb4-5130-7149-8191-20f9622b2a14";

/// What every agent of a test can do; it begins in the folder of the test.
const HEAD: &str = r#"
register() {
    printf '{"pid": %s, "version": "%s", "connected_since": "now"}' $$ $version >status.new
    mv status.new "$MUSTER_STATE_DIR/status.json"
}
wish() {
    [ -e wished ] || { : >wished; cp wish "$MUSTER_STATE_DIR/update_request.json"; exit 43; }
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

/// What the agent of 0.1.0 does: wishes once, registers and stays.
pub const WISHES: &str = "wish; register; exec sleep 600";
/// What a good agent does.
pub const GOOD: &str = "register; exec sleep 600";
/// What an agent does that never gets a session.
pub const SILENT: &str = "exec sleep 600";

pub struct Installation {
    pub harness: Harness,
}

impl Installation {
    /// 0.1.0 is current, its agent does `old`; the agent of 0.2.0 does `new`.
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
        let pin = format!("{}\n", key.public().unwrap().fingerprint());
        fs::write(installation.path("release_key"), pin).unwrap();
        installation.sign(&key);
        let wish = json!({"command_id": COMMAND, "version": "0.2.0"});
        fs::write(installation.path("wish"), wish.to_string()).unwrap();
        installation.run_current(&[]);
        installation
    }

    /// Signs what lies in the release's folder.
    pub fn sign(&self, key: &SigningKey) {
        let file = |name: &str| {
            let bytes = fs::read(self.path("release/bin").join(name)).unwrap();
            let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
            json!({"name": name, "bytes": bytes.len(), "sha256": HEXLOWER.encode(digest.as_ref())})
        };
        let platform = Platform::own().unwrap().to_string();
        let manifest = json!({
            "format": 1, "version": "0.2.0", "floor": "0.0.1", "created_at": "",
            "targets": {platform: [file("muster-agent"), file("muster-supervisor")]},
        });
        let document = manifest.to_string();
        let signature = serde_json::to_string(&key.sign(document.as_bytes()).unwrap()).unwrap();
        fs::write(self.path("release/release.json"), document).unwrap();
        fs::write(self.path("release/release.sig"), signature).unwrap();
        fs::write(self.path("release/fetched.json"), r#"{"is_way_verified": true}"#).unwrap();
    }

    /// As the service manager runs it, with these arguments after `run`.
    pub fn run_current(&mut self, args: &[&str]) {
        let mut command = Command::new(self.path("versions/current/bin/muster-supervisor"));
        command.arg("run").args(args);
        self.harness.run_instead(command);
    }

    /// Lets 0.2.0 be on trial, as a power cut leaves it.
    pub fn leave_on_trial(&self) {
        let release = self.path("release");
        fs::create_dir(self.path("versions/0.2.0")).unwrap();
        fs::rename(release.join("bin"), self.path("versions/0.2.0/bin")).unwrap();
        let trial = json!({
            "command_id": COMMAND, "from": "0.1.0", "to": "0.2.0", "phase": "trying",
        });
        fs::write(self.path("trial.json"), trial.to_string()).unwrap();
        fs::write(self.path("wished"), "").unwrap();
        fs::copy(self.path("wish"), self.path("state/update_request.json")).unwrap();
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

    /// Keeps a file of this name from being written.
    pub fn block(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.join("in the way")).unwrap();
        path
    }

    pub fn json(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.path(name)).ok()?).ok()
    }

    /// The verdict, once there is one.
    pub fn verdict(&self) -> Value {
        eventually("there is a verdict", || self.json("state/update_result.json"))
    }

    /// Waits for this verdict, which ends all of it.
    pub fn ends(&self, outcome: &str, code: &str, version: &str) {
        let verdict = self.verdict();
        assert_eq!(verdict["outcome"], outcome, "{verdict}");
        assert_eq!(verdict["code"].as_str().unwrap_or_default(), code, "{verdict}");
        assert_eq!(verdict["command_id"], COMMAND, "{verdict}");
        eventually("the trial is over", || (!self.path("trial.json").exists()).then_some(()));
        assert_eq!(self.current(), version, "{verdict}");
    }

    /// The parts of a release that were fetched.
    pub fn fetched(&self) -> String {
        fs::read_to_string(self.path("fetched")).unwrap_or_default()
    }

    /// True if a download has left something.
    pub fn has_staging(&self) -> bool {
        fs::read_dir(self.path("")).unwrap().flatten().any(|entry| {
            entry.file_name().to_str().is_some_and(|name| name.starts_with(".release-"))
        })
    }
}

impl Running {
    /// The next agent is of this version; its process.
    pub fn runs(&mut self, version: &str) -> nix::unistd::Pid {
        let line = self.line();
        assert!(line.starts_with(&format!("{version} runs, ")), "expected {version}, got {line:?}");
        crate::harness::one_process(line.rsplit(' ').next().unwrap())
    }

    pub fn stop(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.ended();
    }

    /// Ends it as a power cut does; its agent goes with it.
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
    // The folder may be on another disk.
    fs::hard_link(program, path).or_else(|_| fs::copy(program, path).map(|_| ())).unwrap();
}
