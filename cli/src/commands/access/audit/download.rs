//! Downloads of the audit log.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use reqwest::Method;

use super::{AuditVerifyArgs, ExportArgs, check};
use crate::error::CliError;
use crate::output::printer::print_note;
use crate::session::Session;

/// Longest last line that is looked at to see whether the export is complete.
const TAIL_BYTES: usize = 4 * 1024;

/// Writes the log to a file or to standard output.
///
/// # Errors
/// [`CliError`]; [`CliError::Unsuccessful`] if the export was cut off.
pub async fn export(args: ExportArgs, session: &Session) -> Result<u8, CliError> {
    let mut query = args.filter.query(session).await?;
    query.extend(args.time.query()?);
    query.extend(args.after.map(|after| ("after", after)));
    let end = match &args.output {
        Some(path) => {
            let open = File::options().write(true).create_new(true).mode(0o600).open(path);
            let mut file = open.map_err(CliError::file("create", path))?;
            let end = copy(session, &query, &mut file, path).await?;
            file.sync_all().map_err(CliError::file("write", path))?;
            end
        }
        None => copy(session, &query, &mut std::io::stdout(), Path::new("standard output")).await?,
    };
    if !end.is_complete {
        return Err(CliError::Unsuccessful(
            "the export was cut off; run it again, or continue with --after and the position of its last entry, LINK.ID"
                .into(),
        ));
    }
    if let Some(path) = &args.output {
        print_note(&format!("wrote {}", path.display()));
    }
    Ok(0)
}

/// Reads the whole log, and checks it line by line.
///
/// # Errors
/// As [`export`].
pub async fn verify(args: &AuditVerifyArgs, session: &Session) -> Result<u8, CliError> {
    let mut log = check::start(args)?;
    let api = &session.api;
    let mut response = api
        .send_stream(api.request(Method::GET, &["audit", "export"]).query(&args.log.query()))
        .await?;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| api.cut_off(&error))? {
        rest.extend_from_slice(&chunk);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else {
            if rest.len() as u64 > check::MAX_LOG_LINE_BYTES {
                return Err(CliError::Answer("a line of the audit log is too long".into()));
            }
            continue;
        };
        for line in rest[..end].split(|byte| *byte == b'\n') {
            log.read_line(line)?;
        }
        rest.drain(..=end);
    }
    check::finish(args, log, session.output)
}

/// The end of a download.
struct End {
    /// True if the last line is a head or an end.
    is_complete: bool,
}

async fn copy(
    session: &Session,
    query: &[(&'static str, String)],
    sink: &mut impl Write,
    path: &Path,
) -> Result<End, CliError> {
    let api = &session.api;
    let request = api.request(Method::GET, &["audit", "export"]).query(query);
    let mut response = api.send_stream(request).await?;
    let mut tail: Vec<u8> = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| api.cut_off(&error))? {
        sink.write_all(&chunk).map_err(|error| write_error(error, path))?;
        tail.extend_from_slice(&chunk);
        let surplus = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..surplus);
    }
    sink.flush().map_err(|error| write_error(error, path))?;
    let tail = tail.strip_suffix(b"\n").unwrap_or_default();
    let line = tail.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let starts = |prefix: &str| line.starts_with(prefix.as_bytes());
    // A log without entries has no head.
    let is_complete = starts("{\"type\":\"head\"")
        || starts("{\"type\":\"end\"")
        || starts("{\"type\":\"header\"");
    Ok(End { is_complete })
}

fn write_error(error: std::io::Error, path: &Path) -> CliError {
    match path == Path::new("standard output") {
        true => CliError::Terminal(error),
        false => CliError::file("write", path)(error),
    }
}
