//! Container images without an engine: runs the steps of a Dockerfile on a file system, and
//! containers of it in namespaces, as its `USER`, which can write only to its volumes.
//!
//! The file system is this machine's under an overlay, as for throw-away hosts. If `MUSTER_IMAGES`
//! is set, it is a folder with file systems that were built from the Dockerfiles (`make
//! images-check` creates one). Does not know what runs inside.

mod container;
mod dockerfile;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::processes::binaries::binary;
use crate::processes::test_dir::TestDir;

pub use container::{Container, Mount};
pub use dockerfile::{Dockerfile, repository};

pub(crate) const BOOT: &str = include_str!("boot.sh");
/// What the steps write. Programs are mounted.
const DISK: &str = "size=512m,mode=0755";
const SERVER_PROGRAMS: [&str; 4] = ["muster-server", "muster", "muster-agent", "muster-supervisor"];

/// An image that containers can be started from.
#[derive(Debug)]
pub struct Image {
    pub file: Dockerfile,
    /// Layers for an overlay, the upper first.
    layers: String,
    /// Mounted on `/usr/lib/muster`; `None` if the file system contains them.
    programs: Option<PathBuf>,
    place: PathBuf,
    test_dir: TestDir,
}

impl Image {
    /// Builds `Dockerfile.<part>` around the programs under test. Needs root.
    pub fn build(test_dir: &TestDir, part: &str) -> Self {
        let file = Dockerfile::read(part);
        let place = test_dir.folder(&format!("image-{part}"));
        if let Some(built) = std::env::var_os("MUSTER_IMAGES") {
            let layers = text(&PathBuf::from(built).join(part)).to_owned();
            return Self { file, layers, programs: None, place, test_dir: test_dir.clone() };
        }
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some(DISK))
            .expect("mount the image's disk; these tests need root");
        let programs = test_dir.folder(&format!("programs-{part}"));
        let names = if part == "server" { &SERVER_PROGRAMS[..] } else { &SERVER_PROGRAMS[2..] };
        for name in names {
            link(&binary(name), &programs.join(name));
        }
        let layers = format!("{}:/", place.join("changes").display());
        let image =
            Self { file, layers, programs: Some(programs), place, test_dir: test_dir.clone() };
        image.run_steps();
        image
    }

    /// The directory that holds its containers and volumes.
    pub fn test_dir(&self) -> &TestDir {
        &self.test_dir
    }

    /// The same image with other programs, such as those of another version.
    pub fn with_programs(&mut self, folder: &Path) {
        self.programs = Some(folder.to_owned());
    }

    /// The same image with root as its user, as with `--user 0`.
    pub fn for_root(&mut self) {
        for step in self.file.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
            if step.word == "USER" {
                step.text = "0:0".to_owned();
            }
        }
    }

    /// Runs the steps of the result's stages. Packages are those of this machine.
    fn run_steps(&self) {
        let version = format!("VERSION={}", env!("CARGO_PKG_VERSION"));
        let steps = self.file.result().into_iter();
        for step in steps.filter(|step| step.word == "RUN" && !step.text.contains("apt-get")) {
            let programs = self.programs.as_deref().map_or("", text);
            let mut boot = unshared();
            boot.args([
                "sh",
                "-c",
                BOOT,
                "boot",
                text(&self.place),
                "/",
                programs,
                "0:0",
                "/",
                "--",
            ]);
            boot.args([PATH, &version, "sh", "-c", &step.text]);
            let done = boot.output().expect("run unshare");
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "RUN {}\n{said}", step.text);
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // Nothing is mounted if the file system was built elsewhere.
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

/// The default of container engines.
pub(crate) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const NAMESPACES: [&str; 6] = ["--mount", "--pid", "--fork", "--uts", "--ipc", "--kill-child"];

fn unshared() -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(NAMESPACES);
    unshare
}

/// Creates a second name for a file, or copies it if that is not possible.
fn link(from: &Path, to: &Path) {
    if !to.exists() && fs::hard_link(from, to).is_err() {
        fs::copy(from, to).expect("copy a program");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain names")
}
