//! `muster verify`: checks an execution against what its agent signed, also without the server.

mod check;
mod fields;
mod finding;
mod steps;

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat};
use data_encoding::HEXLOWER;
use muster_protocol::identity::{AgentPublicKey, Fingerprint};
use reqwest::Method;
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::check::{Checked, Evidence, StoredOutput, StreamOutput, check};
use crate::error::CliError;
use crate::output::printer::Output;
use crate::output::text::sanitize;
use crate::session::Session;

/// The format of exported files, in their first line.
const FORMAT: &str = "muster verify 1";
/// Longest first line of an exported file.
const MAX_HEADER_BYTES: u64 = 4 * 1024 * 1024;

/// Check an execution against what its agent signed
///
/// The agent signs what it ran, the result and the hashes of the output with its key pair. Exits with 0 if
/// nothing of that was changed, and with 1 and a sentence otherwise. The answer names what could not be
/// checked. A server that is not trusted can also show a wrong key: pass the key, or the fingerprint that
/// `muster-agent status` prints on the host. An exported file is verified only with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Id of the execution
    #[arg(required_unless_present = "from")]
    execution: Option<String>,
    /// Also write what is needed to check it without the server to this new file
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    export: Option<PathBuf>,
    /// Check an exported file instead of the server's record
    #[arg(long, value_name = "FILE", conflicts_with = "execution")]
    from: Option<PathBuf>,
    /// Public key of the agent in base64, or its fingerprint [default: the key that the server shows; none for a file]
    #[arg(long, value_name = "KEY", value_parser = fingerprint)]
    public_key: Option<Fingerprint>,
}

impl Args {
    /// True if no server is needed.
    pub fn is_offline(&self) -> bool {
        self.from.is_some()
    }
}

/// The first line of an exported file; the output follows it.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    execution: Value,
    agent_public_key: Option<AgentPublicKey>,
}

fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    let key = text.parse::<AgentPublicKey>().map(|key| key.fingerprint());
    key.or_else(|_| text.parse()).map_err(|_| {
        "expected a public key in base64, or a fingerprint such as SHA256:…".to_owned()
    })
}

/// Checks an execution on the server.
///
/// # Errors
/// [`CliError`], also if the execution is not what its agent signed.
pub async fn run(args: Args, session: &Session) -> Result<u8, CliError> {
    let id = args.execution.unwrap_or_default();
    let api = &session.api;
    let execution = api.json(api.request(Method::GET, &["executions", &id])).await?;
    let agent_public_key = public_key_of(session, &execution).await?;
    let header = Header { format: FORMAT.into(), execution, agent_public_key };
    let mut sink = match &args.export {
        Some(path) => Some(new_file(path, &header)?),
        None => None,
    };
    let stored =
        read_output(session, &id, &header.execution, sink.as_mut().zip(args.export.as_deref()));
    let stored = stored.await?;
    let shown = header.agent_public_key.map(|key| key.fingerprint());
    let checked = check(&Evidence {
        requested: Some(id),
        execution: header.execution,
        stored,
        expected: args.public_key.or(shown),
        is_key_given: args.public_key.is_some(),
    })?;
    report(&checked, session.output)
}

/// Checks an exported file.
///
/// # Errors
/// As [`run`].
pub fn run_offline(args: &Args, output: Output) -> Result<u8, CliError> {
    let path = args.from.as_deref().unwrap_or(Path::new(""));
    let open = File::open(path).map_err(CliError::file("read", path))?;
    let mut file = BufReader::new(open);
    let mut line = Vec::new();
    let mut head = file.by_ref().take(MAX_HEADER_BYTES);
    head.read_until(b'\n', &mut line).map_err(CliError::file("read", path))?;
    let header = serde_json::from_slice::<Header>(&line).ok();
    let Some(header) = header.filter(|header| header.format == FORMAT) else {
        let message = format!("{} was not written by `muster verify --export`", path.display());
        return Err(CliError::Usage(message));
    };
    let stored =
        stored_in_file(&mut file, &header.execution).map_err(CliError::file("read", path))?;
    let shown = header.agent_public_key.map(|key| key.fingerprint());
    let checked = check(&Evidence {
        requested: None,
        execution: header.execution,
        stored: Some(stored),
        expected: args.public_key.or(shown),
        is_key_given: args.public_key.is_some(),
    })?;
    if args.public_key.is_none() {
        // A person who changes a file can also sign it again with a key of their own.
        let message = format!(
            "the execution is as signed, by a key that was not checked against a fingerprint you trust: {}; pass \
             the fingerprint that `muster-agent status` prints on the host with --public-key",
            checked.signed.public_key.fingerprint()
        );
        return Err(CliError::Unsuccessful(sanitize(&message)));
    }
    report(&checked, output)
}

/// True if both streams have output. An exported file then has the output three times: in the order
/// read, stdout, and stderr.
fn is_mixed(execution: &Value) -> bool {
    ["stdout_bytes", "stderr_bytes"].iter().all(|name| length(execution, name) > 0)
}

fn length(execution: &Value, name: &str) -> u64 {
    execution.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn stored_in_file(file: &mut impl Read, execution: &Value) -> io::Result<StoredOutput> {
    if is_mixed(execution) {
        let mut part = |name| digest_of(&mut file.by_ref().take(length(execution, name)));
        let (both, stdout) = (part("output_bytes")?, part("stdout_bytes")?);
        return Ok(StoredOutput { both, stdout, stderr: digest_of(file)? });
    }
    let (both, empty) = (digest_of(file)?, OutputDigest::default().finish());
    Ok(match length(execution, "stderr_bytes") {
        0 => StoredOutput { both: both.clone(), stdout: both, stderr: empty },
        _ => StoredOutput { both: both.clone(), stdout: empty, stderr: both },
    })
}

fn digest_of(file: &mut impl Read) -> io::Result<StreamOutput> {
    let mut digest = OutputDigest::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finish()),
            read => digest.update(&buffer[..read]),
        }
    }
}

/// The key that the server shows; none if the agent was deleted or has none.
async fn public_key_of(
    session: &Session,
    execution: &Value,
) -> Result<Option<AgentPublicKey>, CliError> {
    let agent_id = execution.get("agent_id").and_then(Value::as_str).unwrap_or_default();
    match session.api.json(session.api.request(Method::GET, &["agents", agent_id])).await {
        Ok(agent) => {
            let key = agent.get("public_key").and_then(Value::as_str);
            Ok(key.and_then(|key| key.parse().ok()))
        }
        Err(CliError::Refused(problem)) if problem.status == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

fn new_file(path: &Path, header: &Header) -> Result<File, CliError> {
    let create = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        serde_json::to_writer(&mut file, header)?;
        file.write_all(b"\n")?;
        Ok(file)
    };
    create().map_err(CliError::file("create", path))
}

/// Reads the stored output, also of each stream; `None` if the server has none of it any more.
async fn read_output(
    session: &Session,
    id: &str,
    execution: &Value,
    mut copy: Option<(&mut File, &Path)>,
) -> Result<Option<StoredOutput>, CliError> {
    let Some(both) = read_stream(session, id, None, &mut copy).await? else { return Ok(None) };
    if !is_mixed(execution) {
        copy = None;
    }
    let stdout = read_stream(session, id, Some("stdout"), &mut copy).await?;
    let stderr = read_stream(session, id, Some("stderr"), &mut copy).await?;
    let streams = stdout.zip(stderr);
    Ok(streams.map(|(stdout, stderr)| StoredOutput { both, stdout, stderr }))
}

async fn read_stream(
    session: &Session,
    id: &str,
    stream: Option<&str>,
    copy: &mut Option<(&mut File, &Path)>,
) -> Result<Option<StreamOutput>, CliError> {
    let api = &session.api;
    let mut request = api.request(Method::GET, &["executions", id, "output"]);
    if let Some(stream) = stream {
        request = request.query(&[("stream", stream)]);
    }
    let mut digest = OutputDigest::default();
    let mut response = match api.send_stream(request).await {
        Ok(response) => response,
        Err(CliError::Refused(problem)) if problem.status == 410 => return Ok(None),
        // There is no byte.
        Err(CliError::Refused(problem)) if problem.status == 416 => {
            return Ok(Some(digest.finish()));
        }
        Err(error) => return Err(error),
    };
    while let Some(chunk) = response.chunk().await.map_err(|error| api.cut_off(&error))? {
        digest.update(&chunk);
        if let Some((file, path)) = copy {
            file.write_all(&chunk).map_err(CliError::file("write", path))?;
        }
    }
    Ok(Some(digest.finish()))
}

struct OutputDigest {
    bytes: u64,
    context: digest::Context,
}

impl Default for OutputDigest {
    fn default() -> Self {
        Self { bytes: 0, context: digest::Context::new(&digest::SHA256) }
    }
}

impl OutputDigest {
    fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.context.update(bytes);
    }

    fn finish(self) -> StreamOutput {
        let sha256 = HEXLOWER.encode(self.context.finish().as_ref());
        StreamOutput { bytes: self.bytes, sha256 }
    }
}

/// Prints what is verified, and what is not.
fn report(checked: &Checked, output: Output) -> Result<u8, CliError> {
    let Checked { signed, not_checked } = checked;
    let answer = json!({ "verified": true, "signed": signed, "not_checked": not_checked });
    output.answer(&answer, |_| {
        let dropped = signed.result.as_ref().map_or(0, |result| result.dropped_bytes);
        let rest = match dropped {
            0 => String::new(),
            count => format!("; the host dropped {count} bytes of the output before it signed"),
        };
        let mut lines = vec![format!(
            "verified: agent {} signed this result and output with {}{rest}",
            signed.agent_id,
            signed.public_key.fingerprint()
        )];
        if let Some(run) = &signed.run {
            let what = run.script.as_ref().map(|name| format!("the script `{name}`"));
            lines.push(format!(
                "signed: {} ran from {} to {}, by the host's clock",
                what.as_deref().unwrap_or("the ad-hoc command"),
                instant(run.started_at_ms),
                instant(run.ended_at_ms),
            ));
        }
        lines.extend(not_checked.iter().map(|what| format!("not checked: {what}")));
        lines.iter().map(|line| sanitize(line)).collect::<Vec<_>>().join("\n")
    })?;
    Ok(0)
}

fn instant(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(DateTime::from_timestamp_millis);
    at.map_or_else(|| at_ms.to_string(), |at| at.to_rfc3339_opts(SecondsFormat::Millis, true))
}
