//! A network namespace of a test, removed when it ends.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static CREATED: AtomicU32 = AtomicU32::new(0);

/// A namespace with a name that no other test has.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates an empty one. Needs root and the package `iproute2`.
    pub fn create() -> Self {
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("muster-{}-{number}", std::process::id());
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside it.
    pub fn ip(&self, words: &[&str]) {
        ip(&[&["-n", &self.name], words].concat());
    }

    /// The shell command that replaces a program by itself inside the namespace, for the setting
    /// `mounts` of servers and agents.
    pub fn enter(&self, arguments: &str) -> String {
        format!("exec nsenter --net=/run/netns/{} -- \"$0\" {arguments}", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = Command::new("ip").args(["netns", "del", &self.name]).status();
        let is_removed = removed.is_ok_and(|status| status.success());
        assert!(is_removed || std::thread::panicking(), "the namespace {} stays", self.name);
    }
}

/// Runs `ip`.
///
/// # Panics
/// If it fails.
pub fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("run ip; install iproute2");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {complaint}", words.join(" "));
}
