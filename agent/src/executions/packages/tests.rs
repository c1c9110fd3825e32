use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use muster_protocol::library::sha256_hex;
use muster_protocol::parameter::secret_parameters::SecretDelivery;
use tar::{Builder, EntryType, Header};

use super::*;
use crate::executions::ledger::record::PackageLaunch;

/// A server that answers every request with these bytes.
#[derive(Debug)]
struct Sent {
    bytes: Vec<u8>,
    fetched: AtomicUsize,
}

impl PackageSource for Sent {
    fn fetch<'a>(
        &'a self,
        _: &'a str,
        _: u64,
        to: &'a Path,
    ) -> BoxFuture<'a, Result<(), FetchError>> {
        self.fetched.fetch_add(1, Ordering::SeqCst);
        let written = fs::write(to, &self.bytes);
        async move { written.map_err(|_| FetchError::Missing) }.boxed()
    }

    fn fetch_file<'a>(
        &'a self,
        sha256: &'a str,
        bytes: u64,
        to: &'a Path,
    ) -> BoxFuture<'a, Result<(), FetchError>> {
        self.fetch(sha256, bytes, to)
    }
}

fn archive(files: &[(&str, EntryType, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, content) in files {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).expect("appended");
    }
    zstd::encode_all(&*builder.into_inner().expect("finished"), 3).expect("compressed")
}

fn plain(path: &'static str, content: &'static str) -> (&'static str, EntryType, &'static str) {
    (path, EntryType::Regular, content)
}

struct Host {
    _folder: tempfile::TempDir,
    state: StateDir,
    sent: Arc<Sent>,
    packages: PackageStore,
}

fn host(bytes: Vec<u8>) -> Host {
    let folder = tempfile::tempdir().expect("temporary folder");
    let state = StateDir::create(folder.path()).expect("state directory");
    let sent = Arc::new(Sent { bytes, fetched: AtomicUsize::new(0) });
    let packages = PackageStore::new(state.clone(), sent.clone());
    Host { _folder: folder, state, sent, packages }
}

fn launch(sha256: String) -> Launch {
    Launch {
        path: "bin/run".into(),
        argv: Vec::new(),
        interpreter: None,
        args: Vec::new(),
        sha256: Some(sha256),
        script: Some("package:a".into()),
        library: None,
        file: None,
        package: Some(PackageLaunch { version: "1".into(), archive_bytes: 1 }),
        service: None,
        call: None,
        requirements: None,
        is_rehearsal: false,
        is_probe: false,
        file_parameters: Vec::new(),
        steps: Vec::new(),
        policy: None,
        run_as: None,
        secrets: SecretDelivery::Environment,
        timeout_ms: 1,
        output_limit_bytes: 1,
        output_quota_bytes: 1,
    }
}

impl Host {
    async fn prepare(&self, n: u128, launch: Launch) -> Result<(), &'static str> {
        let (_running, cancelled) = watch::channel(());
        let prepared = self.packages.prepare(Uuid::from_u128(n), launch, cancelled).await;
        prepared.map_err(|error| error.code())
    }

    fn folder(&self, n: u128) -> std::path::PathBuf {
        self.state.execution(Uuid::from_u128(n)).package().expect("a path")
    }
}

#[tokio::test]
async fn each_execution_has_a_fresh_folder_of_one_download() {
    let bytes = archive(&[plain("bin/run", "x"), plain("data", "one")]);
    let host = host(bytes.clone());
    let package = launch(sha256_hex(&bytes));
    host.prepare(1, package.clone()).await.expect("prepared");
    fs::write(host.folder(1).join("data"), "changed").expect("written");
    host.prepare(2, package.clone()).await.expect("prepared");
    assert_eq!(fs::read_to_string(host.folder(2).join("data")).expect("read"), "one");
    assert_eq!(host.sent.fetched.load(Ordering::SeqCst), 1);
    // The entry is a program, although the archive does not say so.
    let mode = |path: &str| {
        let metadata = fs::metadata(host.folder(2).join(path)).expect("there");
        metadata.permissions().mode() & 0o7777
    };
    assert_eq!((mode("bin/run"), mode("data"), mode("bin")), (0o700, 0o600, 0o700));
    // What an earlier attempt left is not used.
    fs::write(host.folder(1).join("more"), "x").expect("written");
    host.prepare(1, package).await.expect("prepared again");
    assert!(!host.folder(1).join("more").exists());
    remove_stale(&host.state, |id| id == Uuid::from_u128(2));
    assert!(!host.folder(1).exists() && host.folder(2).exists());
}

#[tokio::test]
async fn bytes_with_another_hash_are_neither_kept_nor_unpacked() {
    let bytes = archive(&[plain("bin/run", "x")]);
    let host = host(b"something else".to_vec());
    let refused = host.prepare(1, launch(sha256_hex(&bytes))).await;
    assert_eq!(refused, Err("hash_mismatch"));
    assert!(!host.folder(1).exists());
    let kept = fs::read_dir(host.state.package_archives()).expect("listed").count();
    assert_eq!(kept, 0);
}

#[tokio::test]
async fn an_archive_that_was_changed_on_the_host_is_downloaded_again() {
    let bytes = archive(&[plain("bin/run", "x")]);
    let host = host(bytes.clone());
    let sha256 = sha256_hex(&bytes);
    host.prepare(1, launch(sha256.clone())).await.expect("prepared");
    let evil = archive(&[plain("bin/run", "evil")]);
    fs::write(host.state.package_archives().join(&sha256), evil).expect("written");
    host.prepare(2, launch(sha256)).await.expect("prepared");
    assert_eq!(fs::read_to_string(host.folder(2).join("bin/run")).expect("read"), "x");
    assert_eq!(host.sent.fetched.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_archive_that_the_server_should_have_refused_leaves_nothing() {
    for files in [
        vec![plain("bin/run", "x"), plain("../../evil", "x")],
        vec![plain("bin/run", "x"), ("link", EntryType::Symlink, "")],
        vec![plain("bin/run", "x"), plain("/tmp/muster-evil", "x")],
        vec![plain("other", "x")],
    ] {
        let bytes = archive(&files);
        let host = host(bytes.clone());
        let refused = host.prepare(1, launch(sha256_hex(&bytes))).await;
        assert_eq!(refused, Err("invalid_package"), "{files:?}");
        assert!(!host.folder(1).exists(), "{files:?}");
        assert!(!host.state.path().join("evil").exists());
    }
}

#[tokio::test]
async fn a_cancelled_preparation_leaves_nothing() {
    let bytes = archive(&[plain("bin/run", "x")]);
    let host = host(bytes.clone());
    let (running, cancelled) = watch::channel(());
    drop(running);
    let launch = launch(sha256_hex(&bytes));
    let prepared = host.packages.prepare(Uuid::from_u128(1), launch, cancelled).await;
    assert!(matches!(prepared, Err(PackageError::Cancelled)), "{prepared:?}");
    assert!(!host.folder(1).exists());
}

#[test]
fn the_longest_unused_archives_are_removed() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (n, name) in ["old", "kept", "new"].into_iter().enumerate() {
        let path = folder.path().join(name);
        fs::write(&path, [0; 10]).expect("written");
        let at = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64);
        fs::File::options().write(true).open(&path).expect("opened").set_modified(at).expect("set");
    }
    let left = |most| {
        cache::shrink(folder.path(), &BTreeSet::from(["kept".to_owned()]), most);
        let entries = fs::read_dir(folder.path()).expect("listed").flatten();
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    };
    assert_eq!(left(30), ["kept", "new", "old"]);
    assert_eq!(left(25), ["kept", "new"]);
    assert_eq!(left(0), ["kept"]);
}
