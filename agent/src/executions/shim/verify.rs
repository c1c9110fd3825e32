//! Checks the file that is about to be started: its location, its hash and its permissions.

use data_encoding::HEXLOWER;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use muster_protocol::manifest::Script;
use ring::digest;

use crate::executions::environment::FIXED_PATH;
use crate::executions::ledger::record::Launch;
use crate::platform::Account;
use crate::policy::guard::{self, GuardError};
use crate::policy::{self, RunAsError};

/// The usual programs for files that are not executable, by the ending of their names.
const USUAL_INTERPRETERS: [(&str, &[&str]); 4] = [
    ("py", &["python3", "python"]),
    ("sh", &["bash", "sh"]),
    ("ps1", &["pwsh"]),
    ("js", &["node", "nodejs"]),
];

/// Why a script is not started. The messages are shown to the person who sent the command.
#[derive(Debug, thiserror::Error)]
pub enum ScriptRefusal {
    #[error("the script's file `{0}` is missing on the host; restore it or change the manifest")]
    Missing(String),
    #[error("the script's path `{0}` is outside the scripts folder; move the file into it")]
    Outside(String),
    #[error(
        "the script's file `{0}` does not match the manifest's SHA-256; check the change, then update the manifest"
    )]
    Hash(String),
    #[error(
        "the copy of the library's script on the host is missing or was changed; send it again"
    )]
    LibraryBody,
    #[error("the unpacked package is missing on the host or has no file `{0}`; send it again")]
    PackageEntry(String),
    #[error("the program `{0}` is not in {FIXED_PATH}; install it or use its full path")]
    UnknownProgram(String),
    #[error("the program `{0}` does not exist on the host; install it or use another one")]
    MissingProgram(String),
    #[error(
        "the script's file `{0}` is not executable; make it executable (chmod +x), or set its interpreter in the manifest"
    )]
    NotExecutable(String),
    #[error(
        "the script's file `{0}` is no program and has no `#!` line; add one such as `#!/bin/sh`, or set its interpreter in the manifest"
    )]
    NoInterpreter(String),
    #[error("{0}")]
    Unsafe(#[from] GuardError),
    #[error("{0}")]
    RunAs(#[from] RunAsError),
    #[error("failed to read the script's file `{path}`: {source}")]
    Unreadable {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

impl ScriptRefusal {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "script_missing",
            Self::PackageEntry(_) => "package_missing",
            Self::Outside(_) => "path_outside",
            Self::Hash(_) | Self::LibraryBody => "hash_mismatch",
            Self::UnknownProgram(_) | Self::MissingProgram(_) => "program_missing",
            Self::NotExecutable(_) | Self::NoInterpreter(_) => "not_executable",
            Self::Unsafe(_) => "unsafe_permissions",
            Self::RunAs(_) => "invalid_policy",
            Self::Unreadable { .. } => "script_unreadable",
        }
    }
}

/// The user that the script runs as, if it is not this process's own.
///
/// # Errors
/// [`ScriptRefusal`] with a message that says what to do.
pub fn account(launch: &Launch) -> Result<Option<Account>, ScriptRefusal> {
    Ok(launch.run_as.as_deref().map(policy::account).transpose()?)
}

/// Finds the program of an ad-hoc command by its full path, or by its name in the folders of the
/// scripts' `PATH`.
///
/// # Errors
/// [`ScriptRefusal`] with a message that says what to do.
pub fn program(name: &str) -> Result<PathBuf, ScriptRefusal> {
    let shown = || name.chars().take(128).collect();
    if name.starts_with('/') {
        let path = PathBuf::from(name);
        return if path.is_file() { Ok(path) } else { Err(ScriptRefusal::MissingProgram(shown())) };
    }
    let mut candidates = FIXED_PATH.split(':').map(|folder| Path::new(folder).join(name));
    candidates
        .find(|path| is_executable(path))
        .ok_or_else(|| ScriptRefusal::UnknownProgram(shown()))
}

/// How much the kernel reads of a file to find the program that runs it.
const FIRST_LINE_BYTES: usize = 256;
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Finds the script's file and checks that it is the listed one.
///
/// A user who may write to the scripts folder can replace the file after this check. If the agent
/// is root, only root may write there, which is checked too; otherwise the owner of the host must
/// protect the folder.
///
/// # Errors
/// [`ScriptRefusal`] with a message that says what to do.
pub fn script(
    scripts: &Path,
    path: &str,
    sha256: Option<&str>,
    account: Option<&Account>,
) -> Result<PathBuf, ScriptRefusal> {
    let listed = || path.to_owned();
    let folder = scripts.canonicalize().map_err(|_| ScriptRefusal::Missing(listed()))?;
    // The first manifests name files relative to their own folder.
    let beside = || scripts.parent().map_or(folder.clone(), Path::to_owned).join(path);
    let inside = folder.join(path).canonicalize();
    let path = inside.or_else(|_| beside().canonicalize());
    let path = path.map_err(|_| ScriptRefusal::Missing(listed()))?;
    if !path.starts_with(&folder) {
        return Err(ScriptRefusal::Outside(listed()));
    }
    if !path.is_file() {
        return Err(ScriptRefusal::Missing(listed()));
    }
    // Replacing the folder itself needs write access only to its parent.
    scripts.parent().map_or(Ok(()), guard::check)?;
    guard::check(&folder)?;
    // A script that runs as another user may belong to that user.
    let owner = account.map_or(0, Account::user_id);
    guard::check_within(&folder, &path, owner)?;
    if let Some(expected) = sha256 {
        let unreadable = |source| ScriptRefusal::Unreadable { path: listed(), source };
        if !hash(&path).map_err(unreadable)?.eq_ignore_ascii_case(expected) {
            return Err(ScriptRefusal::Hash(listed()));
        }
    }
    Ok(path)
}

/// Finds the body of a library script in the cache, and checks that it is still the accepted one.
///
/// # Errors
/// [`ScriptRefusal`] with a message that says what to do.
pub fn library_body(
    folder: &Path,
    name: &str,
    sha256: Option<&str>,
) -> Result<PathBuf, ScriptRefusal> {
    let path = folder.join(name);
    if path.parent() != Some(folder) {
        return Err(ScriptRefusal::LibraryBody);
    }
    folder.parent().map_or(Ok(()), guard::check)?;
    guard::check(folder)?;
    guard::check(&path).map_err(|error| match error.is_missing() {
        true => ScriptRefusal::LibraryBody,
        false => error.into(),
    })?;
    let found = hash(&path).map_err(|_| ScriptRefusal::LibraryBody)?;
    if sha256 != Some(found.as_str()) {
        return Err(ScriptRefusal::LibraryBody);
    }
    Ok(path)
}

/// Finds the entry of a package that the agent unpacked from the accepted archive.
///
/// # Errors
/// [`ScriptRefusal`] with a message that says what to do.
pub fn package_entry(folder: Option<&Path>, entry: &str) -> Result<PathBuf, ScriptRefusal> {
    let missing = || ScriptRefusal::PackageEntry(entry.to_owned());
    let folder = folder.ok_or_else(missing)?;
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let path = folder.join(entry);
    if !Path::new(entry).components().all(is_plain) || !path.is_file() {
        return Err(missing());
    }
    folder.parent().map_or(Ok(()), guard::check)?;
    guard::check(folder)?;
    guard::check(&path)?;
    Ok(path)
}

/// The program that runs a library script.
///
/// # Errors
/// [`ScriptRefusal`] if the host does not have it.
pub fn library_interpreter(name: &str) -> Result<PathBuf, ScriptRefusal> {
    let ending = match name {
        "python" => "py",
        "node" => "js",
        "powershell" => "ps1",
        _ => return program(name),
    };
    let usual = USUAL_INTERPRETERS.iter().find(|(known, _)| *known == ending);
    let mut programs = usual.iter().flat_map(|(_, programs)| programs.iter());
    let found = programs.find_map(|name| program(name).ok());
    let wanted = usual.and_then(|(_, programs)| programs.first()).map_or(name, |program| *program);
    found.ok_or_else(|| ScriptRefusal::UnknownProgram(wanted.to_owned()))
}

/// The program that runs a script's file: the listed one, or for a file that is not executable the
/// usual one for the ending of its name. `None` if the file itself is started.
///
/// # Errors
/// [`ScriptRefusal::UnknownProgram`] if the host has none for this ending.
pub fn interpreter(file: &Path, listed: Option<&str>) -> Result<Option<PathBuf>, ScriptRefusal> {
    if let Some(listed) = listed {
        return Ok(Some(listed.into()));
    }
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let usual = USUAL_INTERPRETERS.iter().find(|(known, _)| *known == ending);
    match usual {
        Some((_, programs)) if !is_executable(file) => {
            let first = programs.iter().find_map(|name| program(name).ok());
            first.map(Some).ok_or_else(|| ScriptRefusal::UnknownProgram(programs[0].to_owned()))
        }
        _ => Ok(None),
    }
}

/// Checks everything that [`script`] checks, and that there is a program to run the file.
///
/// # Errors
/// [`ScriptRefusal`] with a message that says what to do.
pub fn startable(
    scripts: &Path,
    listed: &Script,
    account: Option<&Account>,
) -> Result<(), ScriptRefusal> {
    let file = script(scripts, &listed.path, listed.sha256.as_deref(), account)?;
    match (&listed.interpreter, interpreter(&file, listed.interpreter.as_deref())?) {
        (Some(name), _) => program(name).map(|_| ()),
        (None, None) if !is_executable(&file) => {
            Err(ScriptRefusal::NotExecutable(listed.path.clone()))
        }
        (None, None) => kernel_starts(&file, &listed.path),
        (None, Some(_)) => Ok(()),
    }
}

/// Checks the first line of an executable file as the kernel reads it.
fn kernel_starts(file: &Path, listed: &str) -> Result<(), ScriptRefusal> {
    let unreadable = |source| ScriptRefusal::Unreadable { path: listed.to_owned(), source };
    let mut start = Vec::with_capacity(FIRST_LINE_BYTES);
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(FIRST_LINE_BYTES as u64).read_to_end(&mut start).map_err(unreadable)?;
    if start.starts_with(ELF_MAGIC) {
        return Ok(());
    }
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let missing = || ScriptRefusal::NoInterpreter(listed.to_owned());
    // Only these two separate words: a carriage return is part of the name.
    let mut words = line
        .strip_prefix("#!")
        .ok_or_else(missing)?
        .split([' ', '\t'])
        .filter(|word| !word.is_empty());
    let interpreter = words.next().ok_or_else(missing)?;
    program(interpreter)?;
    if interpreter.ends_with("/env") {
        // Options, and variables that it sets, come before the program.
        let named = words.find(|word| !word.starts_with('-') && !word.contains('='));
        program(named.ok_or_else(missing)?)?;
    }
    Ok(())
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Hex SHA-256 of a file.
///
/// # Errors
/// The system's error.
pub fn hash(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(HEXLOWER.encode(context.finish().as_ref())),
            read => context.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_name_or_by_its_full_path() {
        let refusal = |name: &str| program(name).map_err(|refusal| refusal.code()).err();
        assert!(program("sh").expect("everywhere").ends_with("bin/sh"));
        assert_eq!(program("/bin/sh").expect("everywhere"), Path::new("/bin/sh"));
        for name in ["no-such-program", "/bin", "/no/such/program"] {
            assert_eq!(refusal(name), Some("program_missing"), "{name}");
        }
    }

    #[test]
    fn executable_file_starts_if_it_is_a_program_or_its_first_line_names_one() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let starts = |content: &str| {
            let file = folder.path().join("script");
            fs::write(&file, content).expect("written");
            kernel_starts(&file, "script").map_err(|refusal| refusal.code())
        };
        for content in [
            "#!/bin/sh\necho",
            "#! /bin/sh -e\necho",
            "#!/usr/bin/env sh",
            "#!/usr/bin/env -S A=b sh -e\n",
            "\x7fELF\x02",
        ] {
            assert_eq!(starts(content), Ok(()), "{content:?}");
        }
        for (content, code) in [
            ("", "not_executable"),
            ("echo hello\n", "not_executable"),
            ("#!\n", "not_executable"),
            ("#!/usr/bin/env\n", "not_executable"),
            ("#!/no/such/program\n", "program_missing"),
            ("#!/usr/bin/env no-such-program\n", "program_missing"),
            ("#!/bin/sh\r\n", "program_missing"),
        ] {
            assert_eq!(starts(content), Err(code), "{content:?}");
        }
    }

    #[test]
    fn only_the_listed_file_inside_the_scripts_folder_is_found() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let scripts = folder.path().join("scripts");
        fs::create_dir(&scripts).expect("created");
        fs::write(folder.path().join("secret"), "x").expect("written");
        fs::write(scripts.join("a.sh"), "abc").expect("written");
        std::os::unix::fs::symlink("../secret", scripts.join("link")).expect("linked");
        let refusal = |path: &str, hash: Option<&str>| {
            script(&scripts, path, hash, None).map_err(|refusal| refusal.code()).err()
        };
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(refusal("a.sh", Some(abc)), None);
        assert_eq!(refusal("a.sh", Some(&abc.to_uppercase())), None);
        assert_eq!(refusal("a.sh", Some(&"0".repeat(64))), Some("hash_mismatch"));
        assert_eq!(refusal("b.sh", None), Some("script_missing"));
        assert_eq!(refusal("link", None), Some("path_outside"));
        assert_eq!(refusal("scripts/a.sh", None), None, "relative to the manifest's folder");
        assert_eq!(refusal("secret", None), Some("path_outside"));
        assert_eq!(refusal(".", None), Some("script_missing"));
    }

    #[test]
    fn a_file_that_is_not_executable_runs_with_the_usual_program_for_its_ending() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let used = |name: &str, mode: u32, listed: Option<&str>| {
            let path = folder.path().join(name);
            fs::write(&path, "x").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
            let found = interpreter(&path, listed).map_err(|refusal| refusal.code());
            found.map(|found| found.map(|program| program.file_name().expect("a name").to_owned()))
        };
        assert_eq!(used("a.py", 0o644, None), Ok(Some("python3".into())));
        assert!(matches!(used("a.sh", 0o644, None), Ok(Some(_))));
        assert_eq!(used("a.sh", 0o755, None), Ok(None), "the file decides by itself");
        assert_eq!(used("a.sh", 0o644, Some("/bin/dash")), Ok(Some("dash".into())));
        assert_eq!(used("a.txt", 0o644, None), Ok(None));
    }
}
