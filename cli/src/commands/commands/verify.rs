//! `muster verify`: checks an execution against what its agent signed, also without the server.

mod check;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use muster_protocol::identity::{AgentPublicKey, Fingerprint};
use reqwest::Method;
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::check::{Evidence, StoredOutput, check};
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
/// The agent signs the result and the hash of the output with its key pair. Exits with 0 if nothing was
/// changed, and with 1 and a sentence otherwise. A server that is not trusted can also show a wrong key:
/// pass the key, or the fingerprint that `muster-agent status` prints on the host.
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
    /// Public key of the agent in base64, or its fingerprint [default: the key that the server shows]
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
    let output = read_output(session, &id, sink.as_mut(), args.export.as_deref()).await?;
    report(header, output, args.public_key, session.output)
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
    let mut digest = OutputDigest::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).map_err(CliError::file("read", path))? {
            0 => return report(header, Some(digest.finish()), args.public_key, output),
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

/// Reads the stored output; `None` if the server has none of it any more.
async fn read_output(
    session: &Session,
    id: &str,
    mut copy: Option<&mut File>,
    path: Option<&Path>,
) -> Result<Option<StoredOutput>, CliError> {
    let api = &session.api;
    let request = api.request(Method::GET, &["executions", id, "output"]);
    let mut response = match api.send_stream(request).await {
        Ok(response) => response,
        Err(CliError::Refused(problem)) if problem.status == 410 => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut digest = OutputDigest::default();
    while let Some(chunk) = response.chunk().await.map_err(|error| api.cut_off(&error))? {
        digest.update(&chunk);
        if let Some(file) = &mut copy {
            let path = path.unwrap_or(Path::new(""));
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

    fn finish(self) -> StoredOutput {
        let sha256 = HEXLOWER.encode(self.context.finish().as_ref());
        StoredOutput { bytes: self.bytes, sha256 }
    }
}

fn report(
    header: Header,
    stored: Option<StoredOutput>,
    expected: Option<Fingerprint>,
    output: Output,
) -> Result<u8, CliError> {
    let shown = header.agent_public_key.map(|key| key.fingerprint());
    let evidence = Evidence { execution: header.execution, stored, expected: expected.or(shown) };
    let signed = check(&evidence).map_err(|finding| CliError::Unsuccessful(finding.to_string()))?;
    let answer = json!({ "verified": true, "signed": signed });
    output.answer(&answer, |_| {
        let dropped = signed.result.as_ref().map_or(0, |result| result.dropped_bytes);
        let rest = match dropped {
            0 => String::new(),
            count => format!("; the host dropped {count} bytes of the output before it signed"),
        };
        sanitize(&format!(
            "verified: agent {} signed this result and output with {}{rest}",
            signed.agent_id,
            signed.public_key.fingerprint()
        ))
    })?;
    Ok(0)
}
