//! A container of an image: process 1 in its own namespaces, and the operations of a container
//! engine.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{BOOT, Image, NAMESPACES, PATH, text};
use crate::clients::cli::ProgramOutput;
use crate::processes::process::Process;
use crate::processes::test_dir::TestDir;
use crate::wait::eventually;

/// A folder or file of the machine at a path of a container.
#[derive(Debug)]
pub struct Mount {
    source: PathBuf,
    path: String,
    is_read_only: bool,
}

impl Mount {
    pub fn new(source: PathBuf, path: &str) -> Self {
        Self { source, path: path.to_owned(), is_read_only: false }
    }

    pub fn read_only(source: PathBuf, path: &str) -> Self {
        Self { source, path: path.to_owned(), is_read_only: true }
    }

    /// As the start script takes it.
    fn word(&self) -> String {
        let access = if self.is_read_only { ":ro" } else { "" };
        format!("{}:{}{access}", text(&self.source), self.path)
    }
}

/// A running or ended container. It shares the machine's network.
#[derive(Debug)]
pub struct Container {
    process: Process,
    user: (u32, u32),
    variables: Vec<String>,
    health_check: String,
}

impl Container {
    /// Starts a container by the entry point of its image. Its volumes are folders of the test's
    /// directory, named `<name>-<volume>`: a new one is empty, and that of an earlier container of
    /// the same name is used again. Variables take precedence over those of the image.
    pub fn start(image: &Image, name: &str, variables: &[(&str, &str)]) -> Self {
        let volume = |path: &&str| Mount::new(Self::volume(&image.test_dir, name, path), path);
        let mounts: Vec<_> = image.file.volumes().iter().map(volume).collect();
        Self::start_with(image, name, &mounts, None, variables)
    }

    /// Starts a container with these mounts instead of its image's volumes, and possibly with another
    /// entry point, as the services of a Compose file have them.
    pub fn start_with(
        image: &Image,
        name: &str,
        mounts: &[Mount],
        entrypoint: Option<Vec<String>>,
        variables: &[(&str, &str)],
    ) -> Self {
        let file = &image.file;
        let place = image.test_dir.folder(&format!("container-{name}"));
        let mut words = vec![text(&place).to_owned(), image.layers.clone()];
        words.push(image.programs.as_deref().map_or("", text).to_owned());
        let user = file.user();
        words.extend([format!("{}:{}", user.0, user.1), file.only("WORKDIR").to_owned()]);
        words.extend(mounts.iter().map(Mount::word));
        words.push("--".into());
        let mut set = vec![PATH.to_owned()];
        set.extend(file.pairs("ENV").iter().map(|(name, value)| format!("{name}={value}")));
        set.extend(variables.iter().map(|(name, value)| format!("{name}={value}")));
        words.extend(set.iter().cloned());
        words.extend(entrypoint.unwrap_or_else(|| {
            let has_command = file.result().iter().any(|step| step.word == "CMD");
            let command = if has_command { file.words("CMD") } else { Vec::new() };
            [file.words("ENTRYPOINT"), command].concat()
        }));
        let mut args = NAMESPACES.to_vec();
        args.extend(["sh", "-c", BOOT, "boot"]);
        args.extend(words.iter().map(String::as_str));
        let none: [(&str, &str); 0] = [];
        let name = format!("container-{name}");
        let unshare = Path::new("/usr/bin/unshare");
        let process = Process::start(&name, unshare, &args, none, image.test_dir.path());
        Self {
            process: process.ended_by(Signal::SIGKILL),
            user,
            variables: set,
            health_check: file.health_check(),
        }
    }

    /// The folder of a volume.
    pub fn volume(test_dir: &TestDir, name: &str, path: &str) -> PathBuf {
        test_dir.folder(&format!("{name}{}", path.replace('/', "-")))
    }

    /// Its log, over all starts with this name.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The process id of the container's process 1 on the machine.
    pub fn first_process(&self) -> Option<u32> {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Runs a shell command in the container as its user, with its variables.
    pub async fn run(&self, command: &str) -> ProgramOutput {
        let Some(first) = self.first_process() else {
            return ProgramOutput {
                code: None,
                stdout: Vec::new(),
                stderr: "it does not run".into(),
            };
        };
        let mut enter = Command::new("nsenter");
        enter.args(["-t", &first.to_string(), "-m", "-p", "-u", "-i", "--"]);
        let (user, group) = self.user;
        let (user, group) = (format!("--reuid={user}"), format!("--regid={group}"));
        enter.args(["setpriv", &user, &group, "--clear-groups", "env", "-i"]);
        enter.args(&self.variables).args(["sh", "-c", command]);
        enter.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::task::spawn_blocking(move || enter.output());
        let output = output.await.expect("wait").expect("enter the container");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ProgramOutput { code: output.status.code(), stdout: output.stdout, stderr }
    }

    /// The result of its health check.
    pub async fn is_healthy(&self) -> bool {
        self.run(&self.health_check).await.code == Some(0)
    }

    /// Waits for this result of its health check.
    ///
    /// # Panics
    /// If the container ends in the meantime.
    pub async fn becomes(&mut self, healthy: bool) {
        eventually(&format!("the container is healthy: {healthy}"), async || {
            let status = self.process.status();
            assert!(status.is_none(), "the container ended: {status:?}\n{}", self.log());
            (self.is_healthy().await == healthy).then_some(())
        })
        .await;
    }

    /// True while its process 1 runs.
    pub fn runs(&mut self) -> bool {
        self.process.status().is_none()
    }

    /// Stops it as an engine does, and waits for its end.
    ///
    /// # Panics
    /// If it does not end by itself.
    pub async fn stop(mut self) -> ExitStatus {
        let first = self.first_process().expect("it runs");
        kill(Pid::from_raw(first.cast_signed()), Signal::SIGTERM).expect("signal process 1");
        let status = self.process.ended().await;
        assert!(status.signal().is_none(), "{status}\n{}", self.log());
        status
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = self.process.ended().await;
        (status, self.process.log())
    }

    /// Kills it, as a power cut does.
    pub fn kill(mut self) {
        if let Some(first) = self.first_process() {
            let _ = kill(Pid::from_raw(first.cast_signed()), Signal::SIGKILL);
        }
        self.process.kill_9();
    }
}
