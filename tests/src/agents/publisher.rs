//! Releases for a test: programs with other versions in their stamps, a key, and hosts with program
//! folders as `deploy.sh` creates them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use muster_protocol::release::{Platform, Program};

use crate::clients::cli::{Cli, ProgramOutput};
use crate::fixture::Fixture;
use crate::json::JsonFields as _;
use crate::processes::binaries::binary;

const MARK: &[u8] = b"muster-version:";
/// Size of the stamp, including its mark.
const STAMP_BYTES: usize = 64;

/// A publisher of releases on a server.
#[derive(Debug)]
pub struct Publisher {
    pub cli: Cli,
    folder: PathBuf,
    fingerprint: String,
}

impl Publisher {
    /// A publisher with a new release key, logged in with the server's first API key.
    pub async fn new(fixture: &Fixture) -> Self {
        let cli = Cli::new(&fixture.test_dir);
        let login = ["login", "--server", &fixture.server.url()];
        cli.run_with_input(&login, fixture.api.key()).await.expect(0);
        let folder = fixture.test_dir.folder("releases");
        let publisher = Self { cli, folder, fingerprint: String::new() };
        let fingerprint = publisher.make_key("key").await;
        Self { fingerprint, ..publisher }
    }

    /// Creates a key with a name. Returns its fingerprint.
    pub async fn make_key(&self, name: &str) -> String {
        let file = self.key(name);
        let made = self.cli.run(&["release", "keygen", text(&file), "--json"]).await.json();
        made.text("fingerprint").to_owned()
    }

    /// The file of a key.
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.pem"))
    }

    /// The fingerprint of the first key.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The programs under test with another version in their stamps.
    pub fn programs(&self, version: &str) -> PathBuf {
        let folder = self.folder.join(format!("programs-{version}"));
        fs::create_dir_all(&folder).expect("make a folder");
        for program in Program::ALL {
            let name = program.file_name();
            let path = folder.join(name);
            if path.exists() {
                continue;
            }
            let mut bytes = fs::read(self.stripped(name)).expect("read a program");
            restamp(&mut bytes, version);
            write_program(&path, &bytes);
        }
        folder
    }

    /// A program under test without debug information, which would be most of every download.
    fn stripped(&self, name: &str) -> PathBuf {
        let path = self.folder.join(format!("stripped-{name}"));
        if !path.exists() {
            let stripped = Command::new("strip").arg("-o").arg(&path).arg(binary(name)).status();
            assert!(stripped.expect("run strip").success());
        }
        path
    }

    /// Replaces one of those programs by a shell script with a valid stamp.
    pub fn replace(&self, version: &str, program: Program, script: &str) {
        let path = self.programs(version).join(program.file_name());
        let mut bytes = format!("#!/bin/sh\n{script}\nexit\n").into_bytes();
        bytes.extend(stamp(version));
        // Other versions may share the file.
        fs::remove_file(&path).expect("remove a program");
        write_program(&path, &bytes);
    }

    /// The folder of a release.
    pub fn folder(&self, version: &str) -> PathBuf {
        self.folder.join(version)
    }

    /// Builds and signs a release of [`Publisher::programs`]. Returns its folder.
    pub async fn make(&self, version: &str, floor: &str) -> PathBuf {
        let folder = self.folder(version);
        let platform = Platform::own().expect("a platform with releases");
        let programs = format!("{platform}={}", self.programs(version).display());
        let build = ["release", "build", text(&folder), "--program", &programs, "--floor", floor];
        self.cli.run(&build).await.expect(0);
        self.sign(version, "key").await.expect(0);
        folder
    }

    /// Signs the folder of a release with a key.
    pub async fn sign(&self, version: &str, key: &str) -> ProgramOutput {
        let (folder, key) = (self.folder(version), self.key(key));
        self.cli.run(&["release", "sign", text(&folder), "--key", text(&key)]).await
    }

    /// Publishes a folder.
    pub async fn publish(&self, version: &str) -> ProgramOutput {
        self.cli.run(&["release", "publish", text(&self.folder(version)), "--json"]).await
    }

    /// Creates and publishes a release of the programs under test.
    pub async fn release(&self, version: &str) {
        self.make(version, "0.0.0").await;
        self.publish(version).await.expect(0);
    }

    /// The program folder of [`Publisher::install`].
    pub fn host_folder(&self, host: &str) -> PathBuf {
        let folder = self.folder.join(format!("host-{host}"));
        fs::create_dir_all(&folder).expect("make a folder");
        folder
    }

    /// Creates a host's program folder with this version in it. The host trusts the first key.
    pub fn install(&self, host: &str, version: &str) -> PathBuf {
        let folder = self.host_folder(host);
        let bin = folder.join("versions").join(version).join("bin");
        fs::create_dir_all(&bin).expect("make a folder");
        let programs = self.programs(version);
        for program in Program::ALL {
            let name = program.file_name();
            let (from, to) = (programs.join(name), bin.join(name));
            // The folder may be on a disk of its own.
            let linked = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(|_| ()));
            linked.expect("install a program");
        }
        symlink(version, folder.join("versions/current")).expect("point to the version");
        fs::write(folder.join("release_key"), format!("{}\n", self.fingerprint)).expect("pin");
        folder
    }
}

/// Makes another version current without the supervisor, as a restored disk does.
pub fn point_to(program_folder: &Path, version: &str) {
    let (link, current) =
        (program_folder.join("versions/.link"), program_folder.join("versions/current"));
    symlink(version, &link).expect("make a link");
    fs::rename(link, current).expect("point to the version");
}

/// The version that `current` of a program folder points to.
pub fn current_version(program_folder: &Path) -> String {
    let link = fs::read_link(program_folder.join("versions/current")).expect("a link");
    text(&link).to_owned()
}

fn write_program(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("write a program");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("make it executable");
}

fn stamp(version: &str) -> Vec<u8> {
    let mut stamp = [MARK, version.as_bytes()].concat();
    assert!(stamp.len() < STAMP_BYTES, "the version is too long");
    stamp.resize(STAMP_BYTES, 0);
    stamp
}

/// Writes another version into a program's stamp.
fn restamp(program: &mut [u8], version: &str) {
    let own = stamp(env!("CARGO_PKG_VERSION"));
    let starts: Vec<_> = (0..program.len() - STAMP_BYTES)
        .filter(|at| program[*at] == own[0] && program[*at..*at + STAMP_BYTES] == own[..])
        .collect();
    assert!(!starts.is_empty(), "the program has no stamp");
    for at in starts {
        program[at..at + STAMP_BYTES].copy_from_slice(&stamp(version));
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain text")
}
