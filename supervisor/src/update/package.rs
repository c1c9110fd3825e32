//! A downloaded release: bytes that nobody has vouched for until they are verified.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use muster_protocol::release::{
    KeyChange, MAX_MANIFEST_BYTES, Program, PublicKey, ReleaseManifest, ReleaseRequirements,
    Signature, VerifiedRelease, VerifyError, is_trusted_key, verify, verify_signature,
};
use ring::digest::{Context, SHA256};
use serde::Deserialize;

use super::durable;

/// Why a downloaded release is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("the download lacks {0}, or it can't be read")]
    Missing(&'static str),
    #[error("`bin` of the download is no folder")]
    NoFolder,
    #[error(transparent)]
    Refused(#[from] VerifyError),
    #[error("{} has not the size that its manifest says: the download is cut off or another file", .0.file_name())]
    Size(Program),
    #[error("{} has not the SHA-256 that its manifest says", .0.file_name())]
    Sum(Program),
    #[error("{} can't be read", program.file_name())]
    Unreadable {
        program: Program,
        #[source]
        source: io::Error,
    },
}

impl PackageError {
    /// A stable name.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::NoFolder | Self::Unreadable { .. } => "download_failed",
            Self::Refused(refusal) => refusal.code(),
            Self::Size(_) => "wrong_size",
            Self::Sum(_) => "wrong_sum",
        }
    }
}

/// What lies beside the programs of a release.
#[derive(Debug)]
pub struct Package {
    document: Vec<u8>,
    signature: Signature,
    changes: Vec<KeyChange>,
    /// True if it came over TLS with a server whose name was verified.
    pub is_way_verified: bool,
}

/// What the download says of itself.
#[derive(Debug, Default, Deserialize)]
struct Fetched {
    #[serde(default)]
    is_way_verified: bool,
}

impl Package {
    /// Reads what is to be judged.
    ///
    /// # Errors
    /// [`PackageError::Missing`]
    pub fn read(folder: &Path) -> Result<Self, PackageError> {
        let document = durable::read_bytes(&folder.join("release.json"), MAX_MANIFEST_BYTES as u64)
            .ok_or(PackageError::Missing("release.json"))?;
        let signature = durable::read(&folder.join("release.sig"))
            .ok_or(PackageError::Missing("release.sig"))?;
        let fetched: Fetched = durable::read(&folder.join("fetched.json")).unwrap_or_default();
        Ok(Self {
            document,
            signature,
            changes: durable::read(&folder.join("keys.json")).unwrap_or_default(),
            is_way_verified: fetched.is_way_verified,
        })
    }

    /// Judges it against what the host is ready to take.
    ///
    /// # Errors
    /// [`PackageError::Refused`]
    pub fn verify(&self, wish: &ReleaseRequirements<'_>) -> Result<VerifiedRelease, PackageError> {
        Ok(verify(&self.document, &self.signature, &self.changes, wish)?)
    }

    /// What it says it is, and who has signed that.
    ///
    /// # Errors
    /// [`PackageError::Refused`]
    pub fn identity(&self) -> Result<(ReleaseManifest, PublicKey), PackageError> {
        let manifest = verify_signature(&self.document, &self.signature)?;
        Ok((manifest, self.signature.key))
    }

    /// True if its statements lead from the pinned key, named by its fingerprint, to its own.
    pub fn leads_from(&self, pinned: &str) -> bool {
        is_trusted_key(pinned, &self.changes, self.signature.key)
    }
}

/// Where a program of a package, or of an installed version, lies.
pub fn program_path(folder: &Path, program: Program) -> PathBuf {
    folder.join("bin").join(format!("{}{}", program.file_name(), std::env::consts::EXE_SUFFIX))
}

/// Holds the programs in a folder against the manifest.
///
/// # Errors
/// [`PackageError`], the first that applies.
pub fn check_programs(folder: &Path, verified: &VerifiedRelease) -> Result<(), PackageError> {
    // A link would be moved as one, and mean whatever its target is later.
    if !fs::symlink_metadata(folder.join("bin")).is_ok_and(|bin| bin.is_dir()) {
        return Err(PackageError::NoFolder);
    }
    for file in &verified.files {
        let program = file.name;
        let unreadable = |source| PackageError::Unreadable { program, source };
        let opened = durable::open(&program_path(folder, program)).map_err(unreadable)?;
        if opened.metadata().map_err(unreadable)?.len() != file.bytes {
            return Err(PackageError::Size(program));
        }
        if sum(opened).map_err(unreadable)? != file.sha256 {
            return Err(PackageError::Sum(program));
        }
    }
    Ok(())
}

fn sum(mut file: impl io::Read) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.by_ref().read(&mut buffer)? {
            0 => return Ok(HEXLOWER.encode(context.finish().as_ref())),
            read => context.update(&buffer[..read]),
        }
    }
}
