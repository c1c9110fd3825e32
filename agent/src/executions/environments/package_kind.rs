//! Whose packages an environment has, and how they are installed.

/// Each installs packages; `$1` is the interpreter, `$2` the new folder, `$3` the requirements.
const INSTALL_PYTHON: &str = include_str!("install_python_packages.sh");
const INSTALL_NODE: &str = include_str!("install_node_packages.sh");

/// Whose packages an environment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageKind {
    Python,
    Node,
}

impl PackageKind {
    /// Of the packages of an interpreter.
    pub fn of(interpreter: Option<&str>) -> Self {
        if interpreter == Some("node") { Self::Node } else { Self::Python }
    }

    /// The interpreter, if it was not found.
    pub fn program(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::Node => "node",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Node => "node",
        }
    }

    pub(super) fn install(self) -> &'static str {
        match self {
            Self::Python => INSTALL_PYTHON,
            Self::Node => INSTALL_NODE,
        }
    }

    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Python => "requirements.txt",
            Self::Node => "package.json",
        }
    }

    /// What an installation has if it is complete.
    pub(super) fn installed(self) -> &'static str {
        match self {
            Self::Python => "bin/python",
            Self::Node => "node_modules",
        }
    }
}
