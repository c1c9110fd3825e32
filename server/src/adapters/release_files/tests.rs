//! Programs received into a real directory.

use super::*;

fn file(bytes: u64, sha256: &str) -> ProgramFile {
    ProgramFile { name: Program::Agent, bytes, sha256: sha256.into() }
}

#[test]
fn a_program_is_stored_only_once_it_is_complete() {
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let folder = tempfile::tempdir().expect("a folder");
    let files = ReleaseFiles::new(folder.path().join("releases"));
    let platform = Platform::parse("linux-x86_64").expect("known");
    let version = Version::new(1, 2, 3);
    let receive = |file: &ProgramFile| files.receive(&version, platform, file).expect("started");
    let place = files.path(&version, platform, Program::Agent);
    let abc = file(3, ABC);

    let mut short = receive(&abc);
    short.write(b"ab").expect("written");
    assert!(matches!(short.verify().map(drop), Err(ReleaseStoreError::Size(3))));
    let mut long = receive(&abc);
    assert!(matches!(long.write(b"abcd"), Err(ReleaseStoreError::Size(3))));
    drop(long);
    let mut other = receive(&abc);
    other.write(b"abd").expect("written");
    assert!(matches!(other.verify().map(drop), Err(ReleaseStoreError::Sum)));
    let left = fs::read_dir(place.parent().expect("a folder")).expect("listed").count();
    assert_eq!((left, files.has(&version, platform, &abc)), (0, false));

    let mut whole = receive(&abc);
    whole.write(b"a").expect("written");
    whole.write(b"bc").expect("written");
    whole.verify().expect("whole").store().expect("kept");
    assert!(files.has(&version, platform, &abc));
    // As a killed server leaves it.
    fs::write(place.with_file_name(".upload-1"), "half").expect("written");
    let files = ReleaseFiles::new(folder.path().join("releases"));
    assert_eq!(fs::read_dir(place.parent().expect("a folder")).expect("listed").count(), 1);
    files.remove(&version).expect("removed");
    assert!(!files.has(&version, platform, &abc));
}

#[test]
fn a_program_that_would_fill_the_disk_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let platform = Platform::parse("linux-x86_64").expect("known");
    let (version, abc) = (Version::new(1, 2, 3), file(3, ""));
    let mut files = ReleaseFiles::new(folder.path().join("releases"));
    let mut incoming = files.receive(&version, platform, &abc).expect("there is space");
    incoming.reserved_bytes = u64::MAX;
    assert!(matches!(incoming.write(b"a"), Err(ReleaseStoreError::NoSpace)));
    files.reserved_bytes = u64::MAX;
    assert!(matches!(files.receive(&version, platform, &abc), Err(ReleaseStoreError::NoSpace)));
}
