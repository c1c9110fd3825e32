//! `muster logs`: the output of an execution, or of all executions of a job.

mod job_logs;
mod prefixed_lines;
mod received_times;
mod search;
mod stream_printer;

use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::api::output_stream::{OutputEnd, OutputRequest, Stream, read_output};
use crate::error::CliError;
use crate::explanation::{OptionNames, option};
use crate::input::id_prefix;
use crate::output::printer::print_note;
use crate::output::text::sanitize;
use crate::session::Session;
use prefixed_lines::PrefixedLines;
use received_times::ReceivedTimes;
use stream_printer::{MISSING_OUTPUT, StreamPrinter, goes_to_terminal, is_incomplete, write};

/// The options that set fields of the API.
pub const OPTIONS: OptionNames = &[
    option("from_bytes", "--from").expects("a number of bytes"),
    option("follow", "--follow"),
    option("stream", "--stream").expects("stdout or stderr"),
    option("q", "--search").expects("1 to 200 characters"),
    option("limit", "--limit"),
];

/// Print the output of an execution or a job
///
/// Prints the output that exists now, and more with --follow. The exit code does not depend on the
/// result of the script.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of an execution or a job, or its first 8 characters or more; lines of a job start with the name
    /// of their agent
    id: String,
    /// Wait for more output until the execution or job has ended
    #[arg(short, long)]
    follow: bool,
    /// Print only this stream, to standard output [default: both, each to its own stream]
    #[arg(long, value_enum)]
    stream: Option<Stream>,
    /// Skip this many bytes, counted over both streams; for an execution only
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    from: u64,
    /// Print only the lines that have this text, in upper or lower case, each after its offset in bytes; the
    /// server searches. For an execution only
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["follow", "from", "raw", "times"])]
    search: Option<String>,
    /// With --search: stop after this many lines
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "search",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print before each line when the server received it; for an execution only. A host sends output about
    /// once a second
    #[arg(long, conflicts_with_all = ["follow", "stream"])]
    times: bool,
    /// Write every byte to a terminal too, including control sequences
    #[arg(long)]
    raw: bool,
}

impl Args {
    /// The output of one execution.
    pub fn of_execution(id: String, follow: bool) -> Self {
        Self {
            id,
            follow,
            stream: None,
            from: 0,
            search: None,
            limit: 1_000,
            times: false,
            raw: false,
        }
    }
}

/// Prints the output.
///
/// # Errors
/// [`CliError`].
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    if session.output.json && args.search.is_none() {
        let message = "only `muster logs --search` has a JSON form; use the API, see docs/API.md";
        return Err(CliError::Usage(message.into()));
    }
    let id = full_id(session, &args.id).await?;
    let request = OutputRequest { stream: args.stream, from_bytes: args.from, follow: args.follow };
    match look_up(session, &id).await? {
        OutputOwner::Execution => {
            if let Some(text) = &args.search {
                let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
                search::print_found(session, &id, text, args.stream, limit).await?;
                return Ok(0);
            }
            print_if_not_started(session, &id).await?;
            if args.times {
                let end = print_with_times(session, &id, request, args.raw).await?;
                if is_incomplete(end) {
                    print_note(MISSING_OUTPUT);
                }
                return Ok(0);
            }
            let mut printer = StreamPrinter::new(args.stream, args.raw);
            let end = read_output(&session.api, &id, request, |stream, bytes| {
                printer.print(stream, bytes)
            });
            let end = end.await?;
            printer.finish()?;
            if is_incomplete(end) {
                print_note(MISSING_OUTPUT);
            }
        }
        OutputOwner::Job if args.from > 0 => return Err(needs_execution("--from", &id)),
        OutputOwner::Job if args.search.is_some() => return Err(needs_execution("--search", &id)),
        OutputOwner::Job if args.times => return Err(needs_execution("--times", &id)),
        OutputOwner::Job => job_logs::print(&session.api, &id, request, args.raw).await?,
    }
    Ok(0)
}

fn needs_execution(option: &str, job: &str) -> CliError {
    let message =
        format!("{option} needs the id of an execution; see `muster jobs executions {job}`");
    CliError::Usage(message)
}

/// Prints the output that exists now as whole lines, each after the instant at which it was received.
async fn print_with_times(
    session: &Session,
    id: &str,
    request: OutputRequest,
    raw: bool,
) -> Result<Option<OutputEnd>, CliError> {
    let times = ReceivedTimes::read(&session.api, id).await?;
    let is_filtered = |stream| !raw && goes_to_terminal(None, stream);
    let filtered = [Stream::Stdout, Stream::Stderr].map(is_filtered);
    let mut lines = PrefixedLines::new(String::new(), filtered);
    let mut offset = request.from_bytes;
    let end = read_output(&session.api, id, request, |stream, bytes| {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let at = times.at(offset).map(|at| session.output.time.instant(at));
            lines.set_prefix(at.unwrap_or_default());
            write(None, stream, &lines.take(stream, piece))?;
            offset += piece.len() as u64;
        }
        Ok(())
    });
    let end = end.await?;
    for stream in [Stream::Stdout, Stream::Stderr] {
        write(None, stream, &lines.finish(stream))?;
    }
    Ok(end)
}

/// The id that was typed, in full or as its beginning. A job is created together with its executions, so
/// their ids begin alike: the only job with a prefix is meant before its executions.
async fn full_id(session: &Session, typed: &str) -> Result<String, CliError> {
    if Uuid::try_parse(typed).is_ok() {
        return Ok(typed.to_owned());
    }
    let Some(prefix) = id_prefix::checked(typed) else {
        let message = format!(
            "\"{typed}\" is not an id of an execution or a job; see `muster executions` and `muster jobs`"
        );
        return Err(CliError::Usage(message));
    };
    let jobs = session.starting_with("jobs", &prefix).await?;
    let executions = session.starting_with("executions", &prefix).await?;
    match (
        id_prefix::find("job", &prefix, &jobs, sanitize),
        id_prefix::find("", &prefix, &executions, sanitize),
    ) {
        (Ok(job), _) => Ok(job),
        (Err(_), Ok(execution)) if !id_prefix::any(&prefix, &jobs) => Ok(execution),
        _ => {
            let both: Vec<_> = jobs.into_iter().chain(executions).collect();
            id_prefix::find("execution or job", &prefix, &both, sanitize)
        }
    }
}

/// Says why nothing comes from an execution that has not started.
async fn print_if_not_started(session: &Session, id: &str) -> Result<(), CliError> {
    let request = session.api.request(Method::GET, &["executions", id]);
    let execution = session.api.json_with_retries(request).await?;
    let text = |name: &str| execution.get(name).and_then(Value::as_str).unwrap_or_default();
    if matches!(text("state"), "queued" | "delivered") && !text("explanation").is_empty() {
        let explanation = session.output.time.sentence(text("explanation"));
        print_note(&format!("no output yet. {explanation}"));
    }
    Ok(())
}

enum OutputOwner {
    Execution,
    Job,
}

/// Finds out whether the id is of an execution or a job.
async fn look_up(session: &Session, id: &str) -> Result<OutputOwner, CliError> {
    let api = &session.api;
    match api.json_with_retries(api.request(Method::GET, &["commands", id])).await {
        Ok(command) if command.get("command").and_then(Value::as_str) == Some("execute") => {
            return Ok(OutputOwner::Execution);
        }
        Ok(_) => return Err(CliError::Usage("only executions and jobs have output".into())),
        Err(CliError::Refused(problem)) if problem.status == 404 => {}
        Err(error) => return Err(error),
    }
    match api.json_with_retries(api.request(Method::GET, &["jobs", id])).await {
        Ok(_) => Ok(OutputOwner::Job),
        Err(CliError::Refused(problem)) if problem.status == 404 => {
            Err(CliError::Usage(format!("no execution and no job has the id {id}")))
        }
        Err(error) => Err(error),
    }
}
