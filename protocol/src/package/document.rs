//! What a package runs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    DOCUMENT_FORMAT, MAX_ARCHIVE_BYTES, MAX_UNPACKED_BYTES, ServiceSettings, TaskSchedule, entries,
};
use crate::library::{MAX_DOCUMENT_BYTES, ScriptParameter};
use crate::limits::MAX_TIMEOUT_MS;
use crate::parameter::secret_parameters::SecretParameters;
use crate::parameter::{
    AcceptedParameters, MAX_PARAMETERS, ParameterError, Parameters, check_accepted,
};

/// Most arguments of a package.
pub const MAX_ARGUMENTS: usize = 64;
/// Longest argument, in bytes.
pub const MAX_ARGUMENT_BYTES: usize = 4_096;
/// Longest version, in bytes.
const MAX_VERSION_BYTES: usize = 64;

/// Everything that decides what a package runs. It is stored and sent as one text, and hashed as this
/// text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageDocument {
    pub format: u32,
    /// Without the prefix `package:`.
    pub name: String,
    pub version: String,
    pub kind: PackageKind,
    pub executor: PackageExecutor,
    /// The file of the archive that is started.
    pub entry: String,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ScriptParameter>,
    /// A caller can shorten it but not extend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// When a task is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<TaskSchedule>,
    /// How a service is kept running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSettings>,
    /// Hex SHA-256 of the archive.
    pub sha256: String,
    /// Size of the archive.
    pub archive_bytes: u64,
    /// Size of all its files.
    pub unpacked_bytes: u64,
}

/// How a package runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageKind {
    /// Once for each command.
    Job,
    /// Also at due times, on hosts that it is assigned to.
    Task,
    /// All the time, on hosts that it is assigned to.
    Service,
}

/// What starts the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackageExecutor {
    /// The entry is a program.
    Binary,
    Sh,
    Bash,
    Python,
    Powershell,
    Node,
}

impl PackageExecutor {
    /// Every executor.
    pub const ALL: [Self; 6] =
        [Self::Binary, Self::Sh, Self::Bash, Self::Python, Self::Powershell, Self::Node];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Sh => "sh",
            Self::Bash => "bash",
            Self::Python => "python",
            Self::Powershell => "powershell",
            Self::Node => "node",
        }
    }

    /// The interpreter of the entry; `None` if the entry is a program.
    pub const fn interpreter(self) -> Option<&'static str> {
        match self {
            Self::Binary => None,
            other => Some(other.as_str()),
        }
    }
}

impl PackageKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Task => "task",
            Self::Service => "service",
        }
    }
}

impl PackageDocument {
    /// The text that is stored, sent and hashed.
    pub fn to_text(&self) -> String {
        // Plain data with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Checks everything that does not depend on the archive.
    ///
    /// # Errors
    /// The field, and a problem as the end of a sentence about it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let refused = |field: &str, problem: &str| Err((field.to_owned(), problem.to_owned()));
        if self.format != DOCUMENT_FORMAT {
            return refused("format", "is not known to this program");
        }
        if !crate::manifest::is_script_name(&self.name) {
            return refused(
                "name",
                "must be 1 to 128 of letters, digits, `.`, `_`, `-`, and must not start with a dot",
            );
        }
        if !is_package_version(&self.version) {
            return refused(
                "version",
                "must be 1 to 64 of letters, digits, `.`, `_`, `+`, `-`, and must start with a letter or digit",
            );
        }
        if entries::check_path(&self.entry).is_err() {
            return refused("entry", "must be the path of a file of the archive");
        }
        let is_argument =
            |argument: &String| argument.len() <= MAX_ARGUMENT_BYTES && !argument.contains('\0');
        if self.argv.len() > MAX_ARGUMENTS || !self.argv.iter().all(is_argument) {
            return refused("argv", "must be at most 64 texts of at most 4096 bytes, without NUL");
        }
        if self.timeout_ms.is_some_and(|timeout| timeout == 0 || timeout > MAX_TIMEOUT_MS) {
            return refused("timeout_ms", "must be at least 1 and at most 7 days");
        }
        match (self.kind, &self.schedule) {
            (PackageKind::Job | PackageKind::Service, Some(_)) => {
                return refused("schedule", "is for the kind `task` only");
            }
            (PackageKind::Task, None) => {
                return refused("schedule", "is missing: a task needs one");
            }
            (_, schedule) => schedule.as_ref().map_or(Ok(()), TaskSchedule::check)?,
        }
        match (self.kind, &self.service) {
            (PackageKind::Service, None) => {
                return refused("service", "is missing: a service needs it, even if it is empty");
            }
            (PackageKind::Service, Some(_)) if self.timeout_ms.is_some() => {
                return refused("timeout_ms", "is not for services, which run all the time");
            }
            (PackageKind::Job | PackageKind::Task, Some(_)) => {
                return refused("service", "is for the kind `service` only");
            }
            (_, service) => service.as_ref().map_or(Ok(()), ServiceSettings::check)?,
        }
        if self.archive_bytes > MAX_ARCHIVE_BYTES || self.unpacked_bytes > MAX_UNPACKED_BYTES {
            return refused("archive_bytes", "must be at most 256 MiB, and 1 GiB unpacked");
        }
        if self.parameters.len() > MAX_PARAMETERS {
            return refused("parameters", "must be at most 256");
        }
        let mut names = BTreeSet::new();
        for (n, parameter) in self.parameters.iter().enumerate() {
            let field = |problem: String| (format!("parameters[{n}]"), problem);
            parameter.check().map_err(field)?;
            if !names.insert(&parameter.name) {
                return Err(field(format!("repeats `{}`", parameter.name)));
            }
        }
        if self.to_text().len() > MAX_DOCUMENT_BYTES {
            return refused("parameters", "are too large: with all texts at most 64 KiB");
        }
        Ok(())
    }

    /// The parameters as hosts' manifests declare them.
    pub fn accepted(&self) -> AcceptedParameters {
        AcceptedParameters::Declared(
            self.parameters.iter().map(ScriptParameter::declared).collect(),
        )
    }

    /// Checks the values of a request against the parameters, with their types and patterns.
    ///
    /// # Errors
    /// [`ParameterError`] names the first rejected parameter, never its value.
    pub fn check_values(
        &self,
        parameters: &Parameters,
        secrets: &SecretParameters,
    ) -> Result<(), ParameterError> {
        check_accepted(parameters, secrets, &self.accepted()).map_err(|error| match error {
            // A package is no file of the host's manifest.
            ParameterError::Undeclared { name, .. } => ParameterError::NotOfVersion(name),
            error => error,
        })?;
        ScriptParameter::check_values(&self.parameters, parameters, secrets)
    }
}

/// True for a valid version of a package.
pub fn is_package_version(version: &str) -> bool {
    let is_valid =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-');
    (1..=MAX_VERSION_BYTES).contains(&version.len())
        && version.bytes().all(is_valid)
        && version.starts_with(|first: char| first.is_ascii_alphanumeric())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::library::sha256_hex;

    pub(in crate::package) fn document() -> PackageDocument {
        PackageDocument {
            format: DOCUMENT_FORMAT,
            name: "backup".into(),
            version: "1.2.0".into(),
            kind: PackageKind::Job,
            executor: PackageExecutor::Sh,
            entry: "bin/run.sh".into(),
            argv: vec!["--all".into()],
            parameters: vec![ScriptParameter {
                required: true,
                pattern: Some("[a-z]+".into()),
                ..ScriptParameter::named("WHO")
            }],
            timeout_ms: Some(1_000),
            schedule: None,
            service: None,
            sha256: sha256_hex(b"archive"),
            archive_bytes: 7,
            unpacked_bytes: 9,
        }
    }

    fn hourly() -> TaskSchedule {
        TaskSchedule { every_ms: Some(3_600_000), ..TaskSchedule::default() }
    }

    #[test]
    fn a_document_names_the_field_that_breaks_a_rule() {
        assert_eq!(document().check(), Ok(()));
        let field = |change: fn(&mut PackageDocument)| {
            let mut changed = document();
            change(&mut changed);
            changed.check().expect_err("refused").0
        };
        assert_eq!(field(|document| document.name = ".git".into()), "name");
        assert_eq!(field(|document| document.version = "-1".into()), "version");
        for entry in ["", "/bin/sh", "../run.sh", "a/../b"] {
            let changed = PackageDocument { entry: entry.into(), ..document() };
            assert_eq!(changed.check().expect_err(entry).0, "entry");
        }
        assert_eq!(field(|document| document.argv = vec!["a\0".into()]), "argv");
        assert_eq!(field(|document| document.argv = vec![String::new(); 65]), "argv");
        assert_eq!(field(|document| document.timeout_ms = Some(0)), "timeout_ms");
        assert_eq!(field(|document| document.kind = PackageKind::Task), "schedule");
        assert_eq!(field(|document| document.schedule = Some(hourly())), "schedule");
        let too_often = |document: &mut PackageDocument| {
            document.kind = PackageKind::Task;
            document.schedule = Some(TaskSchedule { every_ms: Some(999), ..hourly() });
        };
        assert_eq!(field(too_often), "schedule.every_ms");
        assert_eq!(field(|document| document.kind = PackageKind::Service), "service");
        let service = |document: &mut PackageDocument| {
            document.kind = PackageKind::Service;
            document.service = Some(ServiceSettings::default());
        };
        assert_eq!(field(service), "timeout_ms", "a service has no longest time");
        let of_job = |document: &mut PackageDocument| {
            document.service = Some(ServiceSettings::default());
        };
        assert_eq!(field(of_job), "service");
        assert_eq!(field(|document| document.archive_bytes = u64::MAX), "archive_bytes");
        let twice = |document: &mut PackageDocument| {
            document.parameters = vec![document.parameters[0].clone(); 2];
        };
        assert_eq!(field(twice), "parameters[1]");
    }

    #[test]
    fn values_are_checked_by_their_declaration() {
        let check = |name: &str, value: &str| {
            let values = Parameters::from([(name.to_owned(), value.to_owned())]);
            document().check_values(&values, &SecretParameters::default())
        };
        assert_eq!(check("WHO", "me"), Ok(()));
        assert!(check("WHO", "Me").is_err());
        assert!(check("OTHER", "me").is_err());
    }
}
