//! The folder of a release: put together and signed on this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{SecondsFormat, Utc};
use data_encoding::HEXLOWER;
use muster_protocol::release::{
    FORMAT, MAX_MANIFEST_BYTES, Platform, Program, ProgramFile, ReleaseManifest, SigningKey,
    Version,
};
use muster_protocol::version::read_stamp;
use ring::digest::{SHA256, digest};

use super::file_error;
use super::key_file::write_new;
use crate::error::CliError;

/// The manifest's name in the folder.
pub const MANIFEST: &str = "release.json";
/// The signature's name in the folder.
pub const SIGNATURE: &str = "release.sig";

/// Copies programs into a folder and writes down what they are.
///
/// # Errors
/// [`CliError::Usage`] if programs have no version or different ones; [`CliError::File`].
pub fn build(
    folder: &Path,
    programs: &[(Platform, PathBuf)],
    floor: Version,
) -> Result<ReleaseManifest, CliError> {
    if folder.join(MANIFEST).exists() {
        let told = format!("there is a release in {}; give another folder", folder.display());
        return Err(CliError::Usage(told));
    }
    let mut targets: BTreeMap<Platform, Vec<ProgramFile>> = BTreeMap::new();
    let mut found: Option<(Version, PathBuf)> = None;
    for (platform, source) in programs {
        if targets.contains_key(platform) {
            return Err(CliError::Usage(format!("{platform} is given twice")));
        }
        let place = folder.join(platform.to_string());
        fs::create_dir_all(&place).map_err(file_error("make", &place))?;
        let files = targets.entry(*platform).or_default();
        for program in Program::ALL {
            let (path, bytes) = read_program(source, program)?;
            let version = read_stamp(&bytes).ok_or_else(|| {
                let told =
                    "says no version: it is no program of Muster, or one from before releases";
                CliError::Usage(format!("{} {told}", path.display()))
            })?;
            match &found {
                Some((other, first)) if *other != version => {
                    let (path, first) = (path.display(), first.display());
                    let told = format!("{path} is {version}, and {first} is {other}");
                    return Err(CliError::Usage(told));
                }
                Some(_) => {}
                None => found = Some((version, path.clone())),
            }
            let to = place.join(program.file_name());
            fs::write(&to, &bytes).map_err(file_error("write", &to))?;
            files.push(ProgramFile {
                name: program,
                bytes: bytes.len() as u64,
                sha256: HEXLOWER.encode(digest(&SHA256, &bytes).as_ref()),
            });
        }
    }
    let (version, _) = found.ok_or_else(|| CliError::Usage("give at least one program".into()))?;
    let created_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let manifest = ReleaseManifest { format: FORMAT, version, floor, created_at, targets };
    let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    ReleaseManifest::read(&text)
        .map_err(|error| CliError::Usage(format!("that makes no release: {error}")))?;
    write_new(&folder.join(MANIFEST), &text, 0o644)?;
    Ok(manifest)
}

/// Signs the folder's manifest, once its programs are what it says. Its version and the key's
/// fingerprint.
///
/// # Errors
/// [`CliError::Usage`] if they are not; [`CliError::File`].
pub fn sign(folder: &Path, key: &SigningKey) -> Result<(Version, String), CliError> {
    let (document, manifest) = read_manifest(folder)?;
    for (platform, files) in &manifest.targets {
        for file in files {
            read_file(folder, *platform, file)?;
        }
    }
    let unusable = |_| CliError::Usage("the key can't be used to sign".into());
    let signature = key.sign(document.as_bytes()).map_err(unusable)?;
    let path = folder.join(SIGNATURE);
    let text = serde_json::to_vec_pretty(&signature).unwrap_or_default();
    fs::write(&path, text).map_err(file_error("write", &path))?;
    Ok((manifest.version, signature.key.fingerprint()))
}

/// The manifest, to the letter and as what it says.
///
/// # Errors
/// [`CliError::File`], or [`CliError::Usage`] if it makes no sense.
pub fn read_manifest(folder: &Path) -> Result<(String, ReleaseManifest), CliError> {
    let path = folder.join(MANIFEST);
    let length = fs::metadata(&path).map_err(file_error("read", &path))?.len();
    let odd = |error: String| CliError::Usage(format!("{}: {error}", path.display()));
    if length > MAX_MANIFEST_BYTES as u64 {
        return Err(odd(format!("it has more than {MAX_MANIFEST_BYTES} bytes")));
    }
    let document = fs::read_to_string(&path).map_err(file_error("read", &path))?;
    let manifest = ReleaseManifest::read(document.as_bytes()).map_err(odd)?;
    Ok((document, manifest))
}

/// A program of the folder, if it is what the manifest says.
///
/// # Errors
/// [`CliError::File`], or [`CliError::Usage`] if it is not.
pub fn read_file(
    folder: &Path,
    platform: Platform,
    file: &ProgramFile,
) -> Result<Vec<u8>, CliError> {
    let path = folder.join(platform.to_string()).join(file.name.file_name());
    let bytes = fs::read(&path).map_err(file_error("read", &path))?;
    let is_it = bytes.len() as u64 == file.bytes
        && HEXLOWER.encode(digest(&SHA256, &bytes).as_ref()) == file.sha256;
    match is_it {
        true => Ok(bytes),
        false => {
            let told = "is not what the manifest says; build the release again";
            Err(CliError::Usage(format!("{} {told}", path.display())))
        }
    }
}

/// A program as a build leaves it, with or without what Windows puts behind its name.
fn read_program(source: &Path, program: Program) -> Result<(PathBuf, Vec<u8>), CliError> {
    let plain = source.join(program.file_name());
    let suffixed = source.join(format!("{}.exe", program.file_name()));
    let path = if !plain.exists() && suffixed.exists() { suffixed } else { plain };
    let bytes = fs::read(&path).map_err(file_error("read", &path))?;
    Ok((path, bytes))
}
