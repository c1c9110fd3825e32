//! Why a host would not carry out an `execute`, whoever finds out: the server before it is queued,
//! or the host before it is started. Never holds a value: it may be a secret.

use crate::argv::ArgvError;
use crate::parameter::ParameterError;

/// Longest name of a script that a sentence repeats, in characters.
const MAX_SHOWN_CHARS: usize = 128;

/// What does not fit. The texts go to the person who asked for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestMismatch {
    #[error("no script `{0}` on this host's list; add it to the host's script_manifest.json")]
    UnknownScript(String),
    #[error("{0}")]
    Parameters(#[from] ParameterError),
    #[error("{0}")]
    Argv(#[from] ArgvError),
    #[error(
        "this host's policy allows no ad-hoc commands; say {{\"allow\": \"shell\"}} in its policy.json, or run a script of its list"
    )]
    ArgvNotAllowed,
}

impl ManifestMismatch {
    /// That no script has this name.
    pub fn unknown_script(name: &str) -> Self {
        Self::UnknownScript(name.chars().take(MAX_SHOWN_CHARS).collect())
    }

    /// The stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownScript(_) => "unknown_script",
            Self::Parameters(_) => "invalid_parameters",
            Self::Argv(_) => "invalid_argv",
            Self::ArgvNotAllowed => "argv_not_allowed",
        }
    }
}
