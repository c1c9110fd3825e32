//! `muster logs`: what an execution printed, or all executions of a job.

mod job;
mod lines;

use std::io::{self, IsTerminal as _, Write as _};

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use super::Session;
use crate::error::CliError;
use crate::live_output::{Ended, Stream, Wanted, watch};
use crate::output::note;
use crate::screen::Filter;

/// Without --follow, prints what is there now. Exits with 0 whatever became of the script.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An execution, or a job: then each line stands behind its agent's name.
    id: String,
    /// Go on until it has ended.
    #[arg(short, long)]
    follow: bool,
    /// One stream only, to standard output; else each goes where it went on the host.
    #[arg(long, value_enum)]
    stream: Option<Stream>,
    /// Begin behind so many bytes of both streams together.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    from: u64,
    /// Give a terminal every byte too, whatever it would do there.
    #[arg(long)]
    raw: bool,
}

/// Prints, and goes on if it is to follow.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    if session.output.json {
        let usage = "logs are printed as they are; for JSON ask the API, see docs/API.md";
        return Err(CliError::Usage(usage.into()));
    }
    if Uuid::try_parse(&args.id).is_err() {
        let usage =
            "say which execution or job by its id; `muster jobs` and `muster commands` show them";
        return Err(CliError::Usage(usage.into()));
    }
    let wanted = Wanted { stream: args.stream, from_bytes: args.from, follow: args.follow };
    match found(session, &args.id).await? {
        Found::Execution => {
            let mut printer = Printer::new(args.stream, args.raw);
            let watched =
                watch(&session.api, &args.id, wanted, |stream, bytes| printer.print(stream, bytes));
            let ended = watched.await?;
            printer.end()?;
            if is_cut(ended) {
                note(CUT);
            }
        }
        Found::Job if args.from > 0 => {
            let usage = "--from is of one execution; `muster jobs executions JOB` shows them";
            return Err(CliError::Usage(usage.into()));
        }
        Found::Job => job::print(&session.api, &args.id, wanted, args.raw).await?,
    }
    Ok(0)
}

enum Found {
    Execution,
    Job,
}

/// What the id is of.
async fn found(session: &Session, id: &str) -> Result<Found, CliError> {
    let api = &session.api;
    match api.json_repeated(api.request(Method::GET, &["commands", id])).await {
        Ok(command) if command.get("command").and_then(Value::as_str) == Some("execute") => {
            return Ok(Found::Execution);
        }
        Ok(_) => return Err(CliError::Usage("only scripts have output".into())),
        Err(CliError::Refused { status: 404, .. }) => {}
        Err(error) => return Err(error),
    }
    match api.json_repeated(api.request(Method::GET, &["jobs", id])).await {
        Ok(_) => Ok(Found::Job),
        Err(CliError::Refused { status: 404, .. }) => {
            Err(CliError::Usage(format!("no execution and no job has the id {id}")))
        }
        Err(error) => Err(error),
    }
}

const CUT: &str = "warning: some of the output is missing";

/// True if it is known that not all of an output is there.
fn is_cut(ended: Option<Ended>) -> bool {
    ended.and_then(|ended| ended.is_output_incomplete) == Some(true)
}

/// Prints the streams of one execution; a terminal gets of each what is harmless there.
struct Printer {
    wanted: Option<Stream>,
    filters: [Option<Filter>; 2],
}

impl Printer {
    fn new(wanted: Option<Stream>, is_raw: bool) -> Self {
        let filter = |stream| (!is_raw && is_terminal(wanted, stream)).then(Filter::default);
        Self { wanted, filters: [filter(Stream::Stdout), filter(Stream::Stderr)] }
    }

    fn print(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), CliError> {
        match &mut self.filters[usize::from(stream == Stream::Stderr)] {
            Some(filter) => print(self.wanted, stream, &filter.take(bytes)),
            None => print(self.wanted, stream, bytes),
        }
    }

    fn end(&mut self) -> Result<(), CliError> {
        for (stream, filter) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&mut self.filters)
        {
            if let Some(filter) = filter {
                print(self.wanted, stream, filter.end())?;
            }
        }
        Ok(())
    }
}

/// Whether people see what is printed of a stream.
fn is_terminal(wanted: Option<Stream>, stream: Stream) -> bool {
    match (wanted, stream) {
        (None, Stream::Stderr) => io::stderr().is_terminal(),
        _ => io::stdout().is_terminal(),
    }
}

/// To where it belongs: a stream that was asked for alone is the answer.
fn print(wanted: Option<Stream>, stream: Stream, bytes: &[u8]) -> Result<(), CliError> {
    match (wanted, stream) {
        (None, Stream::Stderr) => {
            let mut sink = io::stderr().lock();
            sink.write_all(bytes)?;
            Ok(sink.flush()?)
        }
        _ => {
            let mut sink = io::stdout().lock();
            sink.write_all(bytes)?;
            Ok(sink.flush()?)
        }
    }
}
