//! `muster.toml`: what a package says about itself.

use std::io::{self, Read, Seek};

use serde::Deserialize;

use super::archive::{self, ArchiveEntry, ArchiveError, ArchiveFormat};
use super::{
    DESCRIPTION_FILE, DOCUMENT_FORMAT, Entries, EntryProblem, MAX_DESCRIPTION_BYTES,
    PackageDocument, PackageExecutor, PackageKind, ServiceSettings, TaskSchedule,
};
use crate::library::ScriptParameter;
use crate::schedule::TaskTimes;

/// Longest cause that a message quotes, in characters.
const MAX_CAUSE_CHARS: usize = 200;

/// The fields of `muster.toml`. Unknown ones are refused by name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PackageToml {
    name: String,
    version: String,
    kind: PackageKind,
    executor: PackageExecutor,
    entry: String,
    #[serde(default)]
    argv: Vec<String>,
    timeout_ms: Option<u64>,
    schedule: Option<TaskSchedule>,
    service: Option<ServiceSettings>,
    #[serde(default)]
    parameters: Vec<ScriptParameter>,
}

/// What was found out about an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveFacts {
    /// Hex SHA-256.
    pub sha256: String,
    pub archive_bytes: u64,
    pub unpacked_bytes: u64,
}

/// Why a `muster.toml` describes no package. The messages are shown to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    #[error("`{DESCRIPTION_FILE}` is larger than 64 KiB")]
    TooLarge,
    #[error("`{DESCRIPTION_FILE}` can't be read: {0}")]
    Unreadable(String),
    #[error("`{field}` of `{DESCRIPTION_FILE}` {problem}")]
    Field { field: String, problem: String },
}

/// Why an archive is no package. The messages are shown to people.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Description(#[from] DescriptionError),
}

impl From<EntryProblem> for InspectError {
    fn from(problem: EntryProblem) -> Self {
        Self::Archive(problem.into())
    }
}

/// What an archive is.
#[derive(Debug)]
pub struct Inspected {
    pub format: ArchiveFormat,
    pub entries: Entries,
    pub document: PackageDocument,
}

/// Reads a whole archive with this SHA-256, as hosts will. Blocks.
///
/// # Errors
/// [`InspectError`]
pub fn inspect(
    archive: impl Read + Seek,
    archive_bytes: u64,
    sha256: String,
) -> Result<Inspected, InspectError> {
    let mut description = None;
    let mut visit = |entry: ArchiveEntry<'_>, content: &mut dyn Read| -> io::Result<()> {
        if entry.path == DESCRIPTION_FILE {
            let mut bytes = Vec::new();
            content.take(MAX_DESCRIPTION_BYTES + 1).read_to_end(&mut bytes)?;
            description = Some(bytes);
        }
        Ok(())
    };
    let (format, entries) = archive::read(archive, archive_bytes, &mut visit)?;
    entries.require_file(DESCRIPTION_FILE)?;
    let facts = ArchiveFacts { sha256, archive_bytes, unpacked_bytes: entries.unpacked_bytes() };
    let document = read(&description.unwrap_or_default(), facts)?;
    entries.require_file(&document.entry)?;
    if let Some(health) = document.service.as_ref().and_then(|service| service.health.as_ref()) {
        entries.require_file(&health.entry)?;
    }
    Ok(Inspected { format, entries, document })
}

/// The document of a package with this `muster.toml` and archive.
///
/// # Errors
/// [`DescriptionError`]
pub fn read(bytes: &[u8], facts: ArchiveFacts) -> Result<PackageDocument, DescriptionError> {
    if bytes.len() as u64 > MAX_DESCRIPTION_BYTES {
        return Err(DescriptionError::TooLarge);
    }
    let text = str::from_utf8(bytes).map_err(|_| unreadable("it is not UTF-8"))?;
    let description: PackageToml =
        toml::from_str(text).map_err(|error| unreadable(error.message()))?;
    let is_service = description.kind == PackageKind::Service;
    let document = PackageDocument {
        format: DOCUMENT_FORMAT,
        name: description.name,
        version: description.version,
        kind: description.kind,
        executor: description.executor,
        entry: description.entry,
        argv: description.argv,
        parameters: description.parameters,
        timeout_ms: description.timeout_ms,
        schedule: description.schedule,
        service: description.service.or_else(|| is_service.then(ServiceSettings::default)),
        sha256: facts.sha256,
        archive_bytes: facts.archive_bytes,
        unpacked_bytes: facts.unpacked_bytes,
    };
    let times = |schedule| TaskTimes::of(schedule).map(drop);
    let checked = document.check().and_then(|()| document.schedule.as_ref().map_or(Ok(()), times));
    match checked {
        Ok(()) => Ok(document),
        Err((field, problem)) => Err(DescriptionError::Field { field, problem }),
    }
}

fn unreadable(cause: &str) -> DescriptionError {
    let visible = cause.chars().map(|char| if char.is_control() { ' ' } else { char });
    DescriptionError::Unreadable(visible.take(MAX_CAUSE_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
        name = "backup"
        version = "1.2.0"
        kind = "job"
        executor = "sh"
        entry = "bin/run.sh"
        argv = ["--all"]
        timeout_ms = 60000

        [[parameters]]
        name = "WHO"
        type = "string"
        pattern = "[a-z]+"
    "#;

    fn read_text(text: &str) -> Result<PackageDocument, DescriptionError> {
        let sha256 = "a".repeat(64);
        read(text.as_bytes(), ArchiveFacts { sha256, archive_bytes: 7, unpacked_bytes: 9 })
    }

    #[test]
    fn a_description_becomes_the_document_with_the_facts_of_the_archive() {
        let document = read_text(WHOLE).expect("valid");
        assert_eq!((document.name.as_str(), document.version.as_str()), ("backup", "1.2.0"));
        assert_eq!(document.executor, PackageExecutor::Sh);
        assert_eq!(document.argv, ["--all"]);
        assert_eq!((document.archive_bytes, document.unpacked_bytes), (7, 9));
        assert_eq!(document.parameters[0].name, "WHO");
    }

    #[test]
    fn a_task_has_a_schedule_that_is_due() {
        let task = |schedule: &str| {
            let text = WHOLE.replace("\"job\"", "\"task\"");
            read_text(&text.replace("[[parameters]]", &format!("{schedule}\n[[parameters]]")))
        };
        let document = task("[schedule]\ncron = '0 3 * * *'\ntime_zone = 'Europe/Berlin'");
        let schedule = document.expect("valid").schedule.expect("a schedule");
        assert_eq!(schedule.cron.as_deref(), Some("0 3 * * *"));
        for (schedule, named) in [
            ("", "`schedule`"),
            ("[schedule]\ncron = '0 25 * * *'", "`schedule.cron`"),
            ("[schedule]\ncron = '0 3 * * *'\ntime_zone = 'Mars'", "`schedule.time_zone`"),
            ("[schedule]\nevery_ms = 10", "`schedule.every_ms`"),
            ("[schedule]\nevery_ms = 5000\ncron = '0 3 * * *'", "`schedule`"),
            ("[schedule]\nat = 'noon'", "at"),
        ] {
            let error = task(schedule).expect_err(schedule).to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_problem_names_the_field() {
        for (from, to, named) in [
            ("name = \"backup\"", "name = \"../x\"", "`name`"),
            ("1.2.0", "-", "`version`"),
            ("\"job\"", "\"daemon\"", "daemon"),
            ("\"sh\"", "\"perl\"", "perl"),
            ("bin/run.sh", "../run.sh", "`entry`"),
            ("timeout_ms = 60000", "timeout_ms = 0", "`timeout_ms`"),
            ("timeout_ms", "timeout", "timeout"),
            ("entry = \"bin/run.sh\"", "", "entry"),
            ("[a-z]+", "(", "`parameters[0]`"),
        ] {
            let error = read_text(&WHOLE.replace(from, to)).expect_err(to).to_string();
            assert!(error.contains(named), "{error}");
        }
        let large = format!("{WHOLE}\n#{}", "x".repeat(64 * 1024));
        assert_eq!(read_text(&large), Err(DescriptionError::TooLarge));
    }
}
