//! The folder of a release: built and signed on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use data_encoding::HEXLOWER;
use muster_protocol::program::version::read_stamp;
use muster_protocol::release::{
    FORMAT, MAX_DESCRIPTOR_BYTES, Platform, Program, ProgramFile, ReleaseDescriptor, SigningKey,
    Version,
};
use ring::digest::{SHA256, digest};

use super::key_file::write_new;
use crate::error::CliError;

/// File name of the descriptor.
pub const DESCRIPTOR: &str = "release.json";
/// File name of the signature.
pub const SIGNATURE: &str = "release.sig";

/// Copies programs into a folder and writes its descriptor.
///
/// # Errors
/// [`CliError::Usage`] if a program has no version or two have different ones; [`CliError::File`].
pub fn build(
    folder: &Path,
    programs: &[(Platform, PathBuf)],
    floor: Version,
) -> Result<ReleaseDescriptor, CliError> {
    if folder.join(DESCRIPTOR).exists() {
        let message = format!("{} already holds a release; use another folder", folder.display());
        return Err(CliError::Usage(message));
    }
    let mut targets: BTreeMap<Platform, Vec<ProgramFile>> = BTreeMap::new();
    let mut found: Option<(Version, PathBuf)> = None;
    for (platform, source) in programs {
        if targets.contains_key(platform) {
            return Err(CliError::Usage(format!("{platform} is given twice")));
        }
        let target = folder.join(platform.to_string());
        fs::create_dir_all(&target).map_err(CliError::file("create", &target))?;
        let files = targets.entry(*platform).or_default();
        for program in Program::ALL {
            let (path, bytes) = read_program(source, program)?;
            let version = read_stamp(&bytes).ok_or_else(|| {
                CliError::Usage(format!(
                    "{} holds no version; it is not a Muster program, or is too old for releases",
                    path.display()
                ))
            })?;
            match &found {
                Some((other, first)) if *other != version => {
                    let (path, first) = (path.display(), first.display());
                    let message = format!(
                        "the programs have different versions: {first} is {other}, {path} is {version}"
                    );
                    return Err(CliError::Usage(message));
                }
                Some(_) => {}
                None => found = Some((version, path.clone())),
            }
            let to = target.join(program.file_name());
            fs::write(&to, &bytes).map_err(CliError::file("write", &to))?;
            files.push(ProgramFile {
                name: program,
                bytes: bytes.len() as u64,
                sha256: HEXLOWER.encode(digest(&SHA256, &bytes).as_ref()),
            });
        }
    }
    let (version, _) =
        found.ok_or_else(|| CliError::Usage("no program is given; use --program".into()))?;
    let created_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let descriptor = ReleaseDescriptor { format: FORMAT, version, floor, created_at, targets };
    let text = serde_json::to_vec_pretty(&descriptor).unwrap_or_default();
    ReleaseDescriptor::read(&text)
        .map_err(|error| CliError::Usage(format!("invalid release: {error}")))?;
    write_new(&folder.join(DESCRIPTOR), &text, 0o644)?;
    Ok(descriptor)
}

/// Signs the descriptor after checking the programs against it. Returns the version and the key's
/// fingerprint.
///
/// # Errors
/// [`CliError::Usage`] if a program differs from the descriptor; [`CliError::File`].
pub fn sign(folder: &Path, key: &SigningKey) -> Result<(Version, String), CliError> {
    let (document, descriptor) = read_descriptor(folder)?;
    for (platform, files) in &descriptor.targets {
        for file in files {
            read_file(folder, *platform, file)?;
        }
    }
    let unusable = |_| CliError::Usage("the private key can't sign".into());
    let signature = key.sign(document.as_bytes()).map_err(unusable)?;
    let path = folder.join(SIGNATURE);
    let text = serde_json::to_vec_pretty(&signature).unwrap_or_default();
    fs::write(&path, text).map_err(CliError::file("write", &path))?;
    Ok((descriptor.version, signature.key.fingerprint()))
}

/// The descriptor, as its exact text and parsed.
///
/// # Errors
/// [`CliError::File`], or [`CliError::Usage`] if it is invalid.
pub fn read_descriptor(folder: &Path) -> Result<(String, ReleaseDescriptor), CliError> {
    let path = folder.join(DESCRIPTOR);
    let length = fs::metadata(&path).map_err(CliError::file("read", &path))?.len();
    let invalid =
        |error: String| CliError::Usage(format!("{} is invalid: {error}", path.display()));
    if length > MAX_DESCRIPTOR_BYTES as u64 {
        return Err(invalid(format!("it exceeds {MAX_DESCRIPTOR_BYTES} bytes")));
    }
    let document = fs::read_to_string(&path).map_err(CliError::file("read", &path))?;
    let descriptor = ReleaseDescriptor::read(document.as_bytes()).map_err(invalid)?;
    Ok((document, descriptor))
}

/// Reads a program of the folder and checks it against the descriptor.
///
/// # Errors
/// [`CliError::File`], or [`CliError::Usage`] if it differs.
pub fn read_file(
    folder: &Path,
    platform: Platform,
    file: &ProgramFile,
) -> Result<Vec<u8>, CliError> {
    let path = folder.join(platform.to_string()).join(file.name.file_name());
    let bytes = fs::read(&path).map_err(CliError::file("read", &path))?;
    let is_unchanged = bytes.len() as u64 == file.bytes
        && HEXLOWER.encode(digest(&SHA256, &bytes).as_ref()) == file.sha256;
    match is_unchanged {
        true => Ok(bytes),
        false => {
            let message = "differs from the descriptor; build the release again";
            Err(CliError::Usage(format!("{} {message}", path.display())))
        }
    }
}

/// Reads a program from the folder of a build, with or without the suffix `.exe`.
fn read_program(source: &Path, program: Program) -> Result<(PathBuf, Vec<u8>), CliError> {
    let plain = source.join(program.file_name());
    let suffixed = source.join(format!("{}.exe", program.file_name()));
    let path = if !plain.exists() && suffixed.exists() { suffixed } else { plain };
    let bytes = fs::read(&path).map_err(CliError::file("read", &path))?;
    Ok((path, bytes))
}
