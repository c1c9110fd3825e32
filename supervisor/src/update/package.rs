//! A downloaded release. Its bytes are untrusted until they are verified.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use muster_protocol::release::{
    KeyChange, MAX_DESCRIPTOR_BYTES, Program, PublicKey, ReleaseDescriptor, ReleaseRequirements,
    Signature, VerifiedRelease, VerifyError, is_trusted_key, verify, verify_signature,
};
use ring::digest::{Context, SHA256};
use serde::Deserialize;

use super::durable_file;

/// Why a downloaded release is rejected.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("{0} of the download is missing or can't be read")]
    Missing(&'static str),
    #[error("`bin` of the download is not a folder")]
    NoFolder,
    #[error(transparent)]
    Refused(#[from] VerifyError),
    #[error("the size of {} differs from the descriptor: the download is incomplete or another file", .0.file_name())]
    Size(Program),
    #[error("the SHA-256 of {} differs from the descriptor", .0.file_name())]
    Checksum(Program),
    #[error("failed to read {}", program.file_name())]
    Unreadable {
        program: Program,
        #[source]
        source: io::Error,
    },
}

impl PackageError {
    /// A stable code for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::NoFolder | Self::Unreadable { .. } => "download_failed",
            Self::Refused(refusal) => refusal.code(),
            Self::Size(_) => "wrong_size",
            Self::Checksum(_) => "wrong_sum",
        }
    }
}

/// The documents of a release.
#[derive(Debug)]
pub struct Package {
    document: Vec<u8>,
    signature: Signature,
    changes: Vec<KeyChange>,
    /// True if it was downloaded over TLS from a server whose certificate was verified.
    pub is_transport_verified: bool,
}

/// Facts that the download recorded about itself.
#[derive(Debug, Default, Deserialize)]
struct Fetched {
    #[serde(default)]
    is_transport_verified: bool,
}

impl Package {
    /// Reads the documents in a folder.
    ///
    /// # Errors
    /// [`PackageError::Missing`]
    pub fn read(folder: &Path) -> Result<Self, PackageError> {
        let document =
            durable_file::read_bytes(&folder.join("release.json"), MAX_DESCRIPTOR_BYTES as u64)
                .ok_or(PackageError::Missing("release.json"))?;
        let signature = durable_file::read(&folder.join("release.sig"))
            .ok_or(PackageError::Missing("release.sig"))?;
        let fetched: Fetched = durable_file::read(&folder.join("fetched.json")).unwrap_or_default();
        Ok(Self {
            document,
            signature,
            changes: durable_file::read(&folder.join("keys.json")).unwrap_or_default(),
            is_transport_verified: fetched.is_transport_verified,
        })
    }

    /// Verifies the documents against the host's requirements.
    ///
    /// # Errors
    /// [`PackageError::Refused`]
    pub fn verify(
        &self,
        request: &ReleaseRequirements<'_>,
    ) -> Result<VerifiedRelease, PackageError> {
        Ok(verify(&self.document, &self.signature, &self.changes, request)?)
    }

    /// The descriptor and the key that signed it. Does not check whether that key is trusted.
    ///
    /// # Errors
    /// [`PackageError::Refused`]
    pub fn identity(&self) -> Result<(ReleaseDescriptor, PublicKey), PackageError> {
        let descriptor = verify_signature(&self.document, &self.signature)?;
        Ok((descriptor, self.signature.key))
    }

    /// True if its key changes lead from the pinned key, given as fingerprint, to its own key.
    pub fn is_trusted_by(&self, pinned: &str) -> bool {
        is_trusted_key(pinned, &self.changes, self.signature.key)
    }
}

/// The path of a program in a downloaded or installed version.
pub fn program_path(folder: &Path, program: Program) -> PathBuf {
    folder.join("bin").join(format!("{}{}", program.file_name(), std::env::consts::EXE_SUFFIX))
}

/// Compares the programs in a folder with the descriptor.
///
/// # Errors
/// [`PackageError`], the first that applies.
pub fn check_programs(folder: &Path, verified: &VerifiedRelease) -> Result<(), PackageError> {
    // A link would be installed as a link, and its target could change later.
    if !fs::symlink_metadata(folder.join("bin")).is_ok_and(|bin| bin.is_dir()) {
        return Err(PackageError::NoFolder);
    }
    for file in &verified.files {
        let program = file.name;
        let unreadable = |source| PackageError::Unreadable { program, source };
        let opened = durable_file::open(&program_path(folder, program)).map_err(unreadable)?;
        if opened.metadata().map_err(unreadable)?.len() != file.bytes {
            return Err(PackageError::Size(program));
        }
        if sha256_of(opened).map_err(unreadable)? != file.sha256 {
            return Err(PackageError::Checksum(program));
        }
    }
    Ok(())
}

fn sha256_of(mut file: impl io::Read) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.by_ref().read(&mut buffer)? {
            0 => return Ok(HEXLOWER.encode(context.finish().as_ref())),
            read => context.update(&buffer[..read]),
        }
    }
}
