use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::*;
use muster_protocol::commands::file_transfer::PERMISSION_BITS;
use muster_protocol::library::sha256_hex;
use tempfile::TempDir;

/// A folder `allowed`, a folder `outside` beside it, and the agent's `state`.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in ["allowed", "allowed/inner", "outside", "state"] {
            fs::create_dir(folder.path().join(name)).expect("created");
        }
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn work(&self, operation: FileOperation, path: &str) -> FileWork {
        FileWork {
            command_id: Uuid::from_u128(1),
            state_dir: self.path().join("state"),
            file: FileLaunch {
                operation,
                root: self.path().join("allowed").display().to_string(),
                path: path.into(),
                sha256: None,
                bytes: None,
                mode: None,
                max_mode: PERMISSION_BITS,
                owner: None,
                max_bytes: 8,
            },
        }
    }

    fn push_as(&self, path: &str, content: &[u8], claimed: &[u8]) -> Result<String, TransferError> {
        let mut work = self.work(FileOperation::Push, path);
        work.file.sha256 = Some(sha256_hex(claimed));
        work.file.bytes = Some(claimed.len() as u64);
        run(&work, &mut &content[..], &mut Vec::new())
    }

    fn push(&self, path: &str) -> Result<String, TransferError> {
        self.push_as(path, b"new", b"new")
    }

    fn pull(&self, path: &str) -> Result<Vec<u8>, TransferError> {
        let mut output = Vec::new();
        run(&self.work(FileOperation::Pull, path), &mut io::empty(), &mut output)?;
        Ok(output)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let listed = fs::read_dir(self.path().join(folder)).expect("listed");
        let names = listed.map(|entry| entry.expect("read").file_name());
        let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_pushed_file_is_whole_and_replaces_the_one_before() {
    let host = Host::new();
    host.push("inner/a").expect("written");
    let path = host.path().join("allowed/inner/a");
    assert_eq!(fs::read(&path).expect("there"), b"new");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o644);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4750)).expect("changed");
    host.push_as("inner/a", b"newer", b"newer").expect("written");
    assert_eq!(fs::read(&path).expect("there"), b"newer");
    // The permissions stay, and the setuid bit does not.
    assert_eq!(mode(&path), 0o750);
    assert_eq!(host.names("allowed/inner"), ["a"]);
    assert_eq!(host.pull("inner/a").expect("read"), b"newer");
}

#[test]
fn a_file_with_another_hash_or_size_changes_nothing() {
    let host = Host::new();
    host.push("a").expect("written");
    for (content, claimed) in [(&b"evil"[..], &b"good"[..]), (b"go", b"good"), (b"goods", b"good")]
    {
        let refused = host.push_as("a", content, claimed);
        assert!(matches!(refused, Err(TransferError::Hash)), "{refused:?}");
    }
    assert_eq!(fs::read(host.path().join("allowed/a")).expect("there"), b"new");
    assert_eq!(host.names("allowed"), ["a", "inner"]);
}

#[test]
fn a_symbolic_link_is_followed_in_no_place() {
    let host = Host::new();
    let outside = host.path().join("outside");
    fs::write(outside.join("secret"), "secret").expect("written");
    symlink(&outside, host.path().join("allowed/folder")).expect("linked");
    symlink(outside.join("secret"), host.path().join("allowed/file")).expect("linked");
    symlink("inner", host.path().join("allowed/near")).expect("linked");
    for path in ["folder/secret", "file", "near/a"] {
        let (pushed, pulled) = (host.push(path), host.pull(path));
        assert!(matches!(pushed, Err(TransferError::Link(_))), "{path}: {pushed:?}");
        assert!(matches!(pulled, Err(TransferError::Link(_))), "{path}: {pulled:?}");
    }
    assert_eq!(host.names("outside"), ["secret"]);
    assert_eq!(fs::read(outside.join("secret")).expect("there"), b"secret");
}

#[test]
fn only_plain_files_of_one_name_are_read_up_to_the_limit() {
    let host = Host::new();
    let allowed = host.path().join("allowed");
    fs::write(allowed.join("large"), "123456789").expect("written");
    fs::write(host.path().join("outside/secret"), "secret").expect("written");
    fs::hard_link(host.path().join("outside/secret"), allowed.join("linked")).expect("linked");
    nix::unistd::mkfifo(&allowed.join("pipe"), nix::sys::stat::Mode::S_IRUSR).expect("made");
    assert!(matches!(host.pull("large"), Err(TransferError::TooLarge { bytes: 9, .. })));
    assert!(matches!(host.pull("linked"), Err(TransferError::Linked(_))));
    assert!(matches!(host.pull("pipe"), Err(TransferError::NotPlain(_))));
    assert!(matches!(host.pull("inner"), Err(TransferError::NotPlain(_))));
    assert!(matches!(host.pull("none"), Err(TransferError::Missing(_))));
    assert!(matches!(host.push("pipe"), Err(TransferError::NotPlain(_))));
    assert!(matches!(host.push("none/a"), Err(TransferError::NoFolder(_))));
}

#[test]
fn the_state_directory_is_never_reached() {
    let host = Host::new();
    fs::write(host.path().join("state/policy.json"), "{}").expect("written");
    let mut work = host.work(FileOperation::Pull, "state/policy.json");
    work.file.root = host.path().display().to_string();
    let refused = run(&work, &mut io::empty(), &mut Vec::new());
    assert!(matches!(refused, Err(TransferError::StateDirectory)), "{refused:?}");
    // Also by a link that the host's owner allowed.
    symlink(host.path().join("state"), host.path().join("alias")).expect("linked");
    work.file.root = host.path().join("alias").display().to_string();
    work.file.path = "policy.json".into();
    let refused = run(&work, &mut io::empty(), &mut Vec::new());
    assert!(matches!(refused, Err(TransferError::StateDirectory)), "{refused:?}");
}
