//! A process that ends with the measurement that started it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a process may take to end after its signal.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running process. Its output goes to `<name>.log` in its folder.
pub struct ManagedProcess {
    child: Child,
    ending: Signal,
}

impl ManagedProcess {
    /// Starts the process. `ending` is the signal that ends it: TERM for a process with children.
    pub fn start(name: &str, command: &Command, folder: &Path, ending: Signal) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join(format!("{name}.log")))
            .context("open a log")?;
        let child = bound_to_this(command)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        Ok(Self { child, ending })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pipes, once.
    pub fn pipes(&mut self) -> Option<(std::process::ChildStdin, std::process::ChildStdout)> {
        Some((self.child.stdin.take()?, self.child.stdout.take()?))
    }

    /// Fails if it has ended.
    pub fn check(&mut self) -> Result<()> {
        let status = self.child.try_wait()?;
        ensure!(status.is_none(), "a program ended early: {status:?}");
        Ok(())
    }

    /// Ends it and waits for its exit.
    pub fn stop(&mut self) {
        // It may have ended by itself.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill(Pid::from_raw(self.child.id().cast_signed()), self.ending);
            let deadline = Instant::now() + PATIENCE;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ManagedProcess {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The same command, in a process that the kernel kills if this one dies.
fn bound_to_this(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "TERM"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        bound.env(name, value.unwrap_or_default());
    }
    bound
}

/// The path of a program built with this program's profile.
pub fn release_binary(name: &str) -> Result<PathBuf> {
    beside(name, None)
}

/// The path of a program built with the profile for hosts.
pub fn host_binary(name: &str) -> Result<PathBuf> {
    beside(name, Some("host"))
}

fn beside(name: &str, profile: Option<&str>) -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    let folder = own.parent().context("find this program's folder")?;
    let folder = match profile {
        Some(profile) => folder.parent().context("find the target folder")?.join(profile),
        None => folder.to_owned(),
    };
    let path = folder.join(name);
    ensure!(path.exists(), "{} is not built; run `make bench`", path.display());
    Ok(path)
}
