//! A throw-away host: this machine's file system under an overlay, in its own namespaces, with a
//! real service manager as process 1. Everything that is installed there is removed with it.
//!
//! It shares the machine's network, so that it can reach a server of the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use crate::clients::cli::ProgramOutput;
use crate::processes::binaries::binary;
use crate::processes::process::Process;
use crate::processes::test_dir::TestDir;
use crate::wait::{eventually, eventually_blocking};

const BOOT: &str = include_str!("boot.sh");
const DOCKER: &str = include_str!("docker.sh");
/// Everything that a host writes, including its copies of the programs.
const DISK: &str = "size=2g,mode=0755";
/// A forced shutdown of a service manager takes no time; this is for a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service manager of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    Systemd,
    OpenRc,
    Runit,
    Cron,
    /// No service manager.
    Bare,
}

impl Manager {
    fn word(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::OpenRc => "openrc",
            Self::Runit => "runit",
            Self::Cron => "cron",
            Self::Bare => "bare",
        }
    }
}

/// A running host.
#[derive(Debug)]
pub struct Host {
    process: Option<Process>,
    manager: Manager,
    place: PathBuf,
    test_dir: TestDir,
}

impl Host {
    /// Boots a new host. Needs root.
    pub async fn boot(test_dir: &TestDir, manager: Manager) -> Self {
        let place = test_dir.folder("host");
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some(DISK))
            .expect("mount the host's disk; these tests need root");
        let mut host = Self { process: None, manager, place, test_dir: test_dir.clone() };
        host.start().await;
        host
    }

    /// Cuts the power and boots again.
    pub async fn reboot(&mut self) {
        self.cut_power();
        self.start().await;
    }

    async fn start(&mut self) {
        let programs = binary("muster-agent");
        let programs = programs.parent().expect("a folder");
        let namespaces =
            ["--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child"];
        let mut args = namespaces.to_vec();
        let (place, test_dir) = (text(&self.place), text(self.test_dir.path()));
        args.extend(["sh", "-c", BOOT, "boot", &place, self.manager.word()]);
        let programs = text(programs);
        args.extend([programs.as_str(), test_dir.as_str()]);
        let none: [(&str, &str); 0] = [];
        let process = Process::start(
            "host",
            Path::new("/usr/bin/unshare"),
            &args,
            none,
            self.test_dir.path(),
        );
        self.process = Some(process.ended_by(Signal::SIGKILL));
        let is_up = match self.manager {
            Manager::Systemd => "systemctl is-active multi-user.target",
            _ => "test -e /run/booted",
        };
        eventually("the host is up", async || {
            let process = self.process.as_mut().expect("started");
            assert!(process.status().is_none(), "the host did not boot:\n{}", process.log());
            self.first_process()?;
            let said = self.run(is_up).await;
            (said.code == Some(0)).then_some(())
        })
        .await;
    }

    fn cut_power(&mut self) {
        let first = self.first_process();
        if let Some(mut process) = self.process.take() {
            process.kill_9();
        }
        if let Some(id) = first {
            let gone = || (!Path::new(&format!("/proc/{id}")).exists()).then_some(());
            let gone = eventually_blocking(PATIENCE, gone);
            assert!(gone.is_some() || std::thread::panicking(), "the host does not end");
        }
    }

    /// The process id of the host's process 1 on the machine.
    fn first_process(&self) -> Option<u32> {
        let id = self.process.as_ref()?.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Runs a shell command on the host as root, with a clean environment.
    pub async fn run(&self, command: &str) -> ProgramOutput {
        self.run_as("root", command).await
    }

    /// [`Host::run`] as another user.
    pub async fn run_as(&self, user: &str, command: &str) -> ProgramOutput {
        let first = self.first_process().expect("the host runs").to_string();
        let mut enter = Command::new("nsenter");
        enter.args(["-t", &first, "-m", "-p", "-u", "-i", "-C", "--"]);
        match user {
            "root" => enter.args(["env", "HOME=/root", "sh", "-c", command]),
            _ => {
                let home = format!("HOME=/home/{user}");
                enter.args(["runuser", "-u", user, "--", "env", &home, "sh", "-c", command])
            }
        };
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        enter.env_clear().env("PATH", path).current_dir("/").stdin(Stdio::null());
        // To files, because processes that the command leaves running would hold a pipe open.
        let out = tempfile::NamedTempFile::new().expect("a file");
        let err = tempfile::NamedTempFile::new().expect("a file");
        enter.stdout(out.reopen().expect("open")).stderr(err.reopen().expect("open"));
        let status = tokio::task::spawn_blocking(move || enter.status());
        let status = status.await.expect("wait").expect("enter the host");
        let read = |file: &Path| fs::read(file).expect("what it said");
        ProgramOutput {
            code: status.code(),
            stdout: read(out.path()),
            stderr: String::from_utf8_lossy(&read(err.path())).into_owned(),
        }
    }

    /// Replaces `docker` by a program with one image, which has the programs under test.
    pub async fn install_docker(&self, image: &str) {
        let programs = binary("muster-agent");
        let programs = programs.parent().expect("a folder").display();
        let prepare = format!(
            "mkdir -p /usr/local/bin /usr/lib/muster /var/lib/docker-stub/containers /var/lib/docker-stub/volumes \
            && cp {programs}/muster-agent {programs}/muster-supervisor /usr/lib/muster/ \
            && echo {image} >/var/lib/docker-stub/images"
        );
        self.run(&prepare).await.expect(0);
        fs::write(self.file("/usr/local/bin/docker"), DOCKER).expect("write the stub");
        self.run("chmod 755 /usr/local/bin/docker").await.expect(0);
    }

    /// The path of a host's file for this process.
    pub fn file(&self, path: &str) -> PathBuf {
        let first = self.first_process().expect("the host runs");
        PathBuf::from(format!("/proc/{first}/root{path}"))
    }

    /// Every file and folder that differs from a host without an installation, except for those
    /// that the service manager and the packages' tools change.
    pub fn changes(&self) -> Vec<String> {
        let changes = self.place.join("changes");
        let mut found = Vec::new();
        collect(&changes, &changes, &mut found);
        found.sort();
        found
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.cut_power();
        let gone = umount2(&self.place, MntFlags::MNT_DETACH);
        assert!(gone.is_ok() || std::thread::panicking(), "the host's disk stays: {gone:?}");
    }
}

/// Files that a running system changes by itself.
const OWN_AFFAIRS: [&str; 8] = [
    "/etc/machine-id",
    "/root",
    "/run",
    "/tmp",
    "/var/cache",
    "/var/lib/systemd",
    "/var/log/journal",
    "/var/tmp",
];

fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("read a folder").flatten() {
        let path = entry.path();
        let shown = format!("/{}", path.strip_prefix(root).expect("inside").display());
        if OWN_AFFAIRS.iter().any(|own| shown == *own) {
            continue;
        }
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder {
            collect(root, &path, found);
        }
        // A parent folder of a change is not a change.
        if !is_folder || !Path::new(&shown).exists() {
            found.push(shown);
        }
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("plain names").to_owned()
}
