//! Why a host's manifest or policy does not allow an `execute`. The server checks this before it
//! queues the command, the host before it starts it. Never contains a value: it may be a secret.

use crate::commands::argv::ArgvError;
use crate::parameter::ParameterError;

/// Longest script name that a message quotes, in characters.
const MAX_SHOWN_CHARS: usize = 128;

/// The mismatch. The messages are shown to the person who requested the execution.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestMismatch {
    #[error("the host's manifest has no script `{0}`; add it to script_manifest.json on the host")]
    UnknownScript(String),
    #[error("{0}")]
    Parameters(#[from] ParameterError),
    #[error("{0}")]
    Argv(#[from] ArgvError),
    #[error(
        "the host's policy does not allow ad-hoc commands; set {{\"allow\": \"shell\"}} in policy.json on the host, or run a script of its manifest"
    )]
    ArgvNotAllowed,
    #[error(
        "the host's policy does not allow scripts and packages of the library; set {{\"allow\": \"library\"}} in policy.json on the host, or run a script of its manifest"
    )]
    LibraryNotAllowed,
    #[error("the host's agent is too old to run scripts of the library; update the agent")]
    LibraryUnsupported,
    #[error("the host's agent is too old to run packages; update the agent")]
    PackagesUnsupported,
    #[error("the host's agent is too old to transfer files; update the agent")]
    FilesUnsupported,
    #[error(
        "the host's manifest does not let `{0}` read standard input; add \"stdin\": true to the script in script_manifest.json on the host, or send no input"
    )]
    StdinNotAllowed(String),
    #[error("the host's agent is too old to run steps; update the agent")]
    StepsUnsupported,
    #[error("step {1}: {0}")]
    Step(Box<Self>, usize),
    #[error("scripts of the library read no standard input; use a parameter")]
    LibraryStdin,
}

impl ManifestMismatch {
    /// The error for a missing script; truncates its name.
    pub fn unknown_script(name: &str) -> Self {
        Self::UnknownScript(name.chars().take(MAX_SHOWN_CHARS).collect())
    }

    /// The error for a script that does not read standard input; truncates its name.
    pub fn stdin_not_allowed(name: &str) -> Self {
        Self::StdinNotAllowed(name.chars().take(MAX_SHOWN_CHARS).collect())
    }

    /// The mismatch of a step, counted from 1.
    pub fn in_step(self, number: usize) -> Self {
        Self::Step(Box::new(self), number)
    }

    /// The mismatch itself, without the step that has it.
    pub fn of_any_step(&self) -> &Self {
        match self {
            Self::Step(mismatch, _) => mismatch.of_any_step(),
            mismatch => mismatch,
        }
    }

    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownScript(_) => "unknown_script",
            Self::Parameters(_) => "invalid_parameters",
            Self::Argv(_) => "invalid_argv",
            Self::ArgvNotAllowed => "argv_not_allowed",
            Self::LibraryNotAllowed => "library_not_allowed",
            Self::LibraryUnsupported => "library_unsupported",
            Self::PackagesUnsupported => "packages_unsupported",
            Self::FilesUnsupported => "files_unsupported",
            Self::StepsUnsupported => "steps_unsupported",
            Self::Step(mismatch, _) => mismatch.code(),
            Self::StdinNotAllowed(_) | Self::LibraryStdin => "stdin_not_allowed",
        }
    }
}
