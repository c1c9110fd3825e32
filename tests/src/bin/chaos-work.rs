//! The script of the chaos suite: records its execution's id in a file, prints output that is
//! derived from the id, runs for a while, and ends as requested. Its environment has all
//! parameters.

use std::fs::File;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use muster_tests::chaos::Print;
use uuid::Uuid;

fn main() -> anyhow::Result<ExitCode> {
    let id: Uuid = read("MUSTER_COMMAND_ID")?;
    // One write that appends a whole line: a process that is killed has written the line or
    // nothing.
    let mut start_log = File::options().append(true).open(read::<String>("START_LOG")?)?;
    start_log.write_all(format!("{}\n", id.hyphenated()).as_bytes())?;

    let stay = Duration::from_millis(read("STAY_MS")?);
    let pieces = read::<Print>("PRINT")?.pieces(id);
    let rest = stay / (pieces.len() as u32 + 1);
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    for piece in &pieces {
        match piece.is_stderr {
            true => stderr.write_all(&piece.bytes)?,
            // Unbuffered, so that the streams are written alternately.
            false => stdout.write_all(&piece.bytes).and_then(|()| stdout.flush())?,
        }
        std::thread::sleep(rest);
    }
    std::thread::sleep(rest);
    Ok(ExitCode::from(read::<u8>("EXIT")?))
}

fn read<T: std::str::FromStr<Err: std::fmt::Display>>(name: &'static str) -> anyhow::Result<T> {
    let text = std::env::var(name).with_context(|| format!("failed to read {name}"))?;
    text.parse().map_err(|error| anyhow::anyhow!("failed to read {name}: {error}"))
}
