//! The output of a job, with identical output of several agents shown once, and what differs as a diff.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};

use futures_util::{StreamExt as _, TryStreamExt as _};
use ring::digest::{Context, SHA256};
use serde_json::Value;

use super::job_follow::agent_name;
use crate::api::client::ApiClient;
use crate::api::output_stream::{OutputRequest, Stream, read_output};
use crate::error::CliError;
use crate::exit_status::is_terminal;
use crate::output::line_diff::line_diff;
use crate::output::printer::print_note;
use crate::output::terminal_filter::TerminalFilter;
use crate::output::text::pluralize;
use crate::session::Session;

/// Executions that are read at once. An API key may have 64 event streams.
const MAX_CONCURRENT: usize = 16;
/// Bytes of each stream that are shown. The comparison is of all bytes.
const MAX_SHOWN_BYTES: usize = 256 * 1024;
/// Most names in the heading of a group.
const MAX_NAMED: usize = 12;

/// The output of one execution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shown {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// There is more than is kept.
    is_cut: bool,
}

/// Agents with the same output.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    names: Vec<String>,
    shown: Shown,
}

/// Prints the output of a job's executions to standard output. The largest group of identical outputs comes
/// first, and the others as what differs from it.
///
/// # Errors
/// [`CliError`].
pub async fn print(session: &Session, job: &str, raw: bool) -> Result<(), CliError> {
    let groups = read(session, job).await?;
    if groups.iter().all(|group| group.shown == Shown::default()) {
        return Ok(());
    }
    let is_filtered = !raw && io::stdout().is_terminal();
    let mut out = io::stdout().lock();
    let usual = groups.first().filter(|first| groups.len() > 1 && first.names.len() > 1);
    for (index, group) in groups.iter().enumerate() {
        let diff = usual.filter(|_| index > 0).and_then(|usual| group.differences(usual));
        let difference = if diff.is_some() { ", which differs" } else { "" };
        writeln!(out, "{}{difference}:", group.heading())?;
        match diff {
            Some(lines) => {
                for line in lines {
                    write_line(&mut out, "", line.as_bytes(), true)?;
                }
            }
            None => group.write(&mut out, is_filtered)?,
        }
    }
    out.flush()?;
    if groups.len() > 1 {
        print_note(&summary(&groups));
    }
    Ok(())
}

/// The groups of a job, the largest first.
async fn read(session: &Session, job: &str) -> Result<Vec<Group>, CliError> {
    let page = session.api.list(&["jobs", job, "executions"], &[], None).await?;
    let items = page.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let ran = items.into_iter().rev().filter(has_run);
    let outputs = futures_util::stream::iter(ran.map(|item| {
        let api = session.api.clone();
        async move {
            let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
            let (hash, shown) = read_one(&api, id).await?;
            Ok::<_, CliError>((agent_name(&item), hash, shown))
        }
    }));
    let mut outputs = outputs.buffered(MAX_CONCURRENT);
    let mut groups: Vec<Group> = Vec::new();
    let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
    while let Some((name, hash, shown)) = outputs.try_next().await? {
        match known.get(&hash) {
            Some(index) => groups[*index].names.push(name),
            None => {
                known.insert(hash, groups.len());
                groups.push(Group { names: vec![name], shown });
            }
        }
    }
    // Stable: groups of one size stay in the order of their agents.
    groups.sort_by_key(|group| std::cmp::Reverse(group.names.len()));
    Ok(groups)
}

/// Ended, and was started before.
fn has_run(execution: &Value) -> bool {
    let state = execution.get("state").and_then(Value::as_str).unwrap_or_default();
    is_terminal(state) && execution.get("started_at").is_some_and(Value::is_string)
}

/// The hash of an execution's output, and its first bytes.
async fn read_one(api: &ApiClient, id: &str) -> Result<(Vec<u8>, Shown), CliError> {
    let request = OutputRequest { stream: None, from_bytes: 0, follow: false };
    let mut hashes = [Context::new(&SHA256), Context::new(&SHA256)];
    let mut shown = Shown::default();
    read_output(api, id, request, |stream, bytes| {
        // The streams are hashed apart: how their pieces mix differs from host to host.
        let (hash, kept) = match stream {
            Stream::Stdout => (&mut hashes[0], &mut shown.stdout),
            Stream::Stderr => (&mut hashes[1], &mut shown.stderr),
        };
        hash.update(bytes);
        let free_bytes = MAX_SHOWN_BYTES - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(free_bytes)]);
        shown.is_cut |= bytes.len() > free_bytes;
        Ok(())
    })
    .await?;
    let hash = hashes.into_iter().flat_map(|hash| hash.finish().as_ref().to_vec()).collect();
    Ok((hash, shown))
}

impl Group {
    /// The number of agents and their names: `2 agents: web-1, web-2`.
    fn heading(&self) -> String {
        let named: Vec<&str> = self.names.iter().take(MAX_NAMED).map(String::as_str).collect();
        let others = self.names.len().saturating_sub(MAX_NAMED);
        let more = if others == 0 { String::new() } else { format!(" and {others} more") };
        format!("{}: {}{more}", pluralize(self.names.len() as u64, "agent"), named.join(", "))
    }

    /// What differs from the usual output; `None` if the whole output says it better.
    fn differences(&self, usual: &Self) -> Option<Vec<String>> {
        if self.shown.is_cut || usual.shown.is_cut || self.shown == Shown::default() {
            return None;
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let mut lines = line_diff(&text(&usual.shown.stdout)?, &text(&self.shown.stdout)?)?;
        let stderr = line_diff(&text(&usual.shown.stderr)?, &text(&self.shown.stderr)?)?;
        lines.extend(stderr.into_iter().map(|line| format!("stderr {line}")));
        Some(lines)
    }

    fn write(&self, out: &mut impl io::Write, is_filtered: bool) -> Result<(), CliError> {
        if self.shown == Shown::default() {
            return Ok(writeln!(out, "  (no output)")?);
        }
        for (prefix, bytes) in [("", &self.shown.stdout), ("stderr ", &self.shown.stderr)] {
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                write_line(out, prefix, line, is_filtered)?;
            }
        }
        if self.shown.is_cut {
            writeln!(out, "  (cut off; `muster logs` prints all of it)")?;
        }
        Ok(())
    }
}

/// Writes one line of a script behind an indentation, so that it can't imitate a heading.
fn write_line(
    out: &mut impl io::Write,
    prefix: &str,
    line: &[u8],
    is_filtered: bool,
) -> Result<(), CliError> {
    write!(out, "  {prefix}")?;
    if is_filtered {
        let mut filter = TerminalFilter::default();
        let line: Vec<u8> = line.iter().copied().filter(|byte| *byte != b'\r').collect();
        out.write_all(&filter.filter(&line))?;
        out.write_all(filter.finish())?;
    } else {
        out.write_all(line)?;
    }
    Ok(out.write_all(b"\n")?)
}

/// How many outputs are alike.
fn summary(groups: &[Group]) -> String {
    let all: usize = groups.iter().map(|group| group.names.len()).sum();
    let alike = groups.first().map_or(0, |group| group.names.len());
    match (alike, all - alike) {
        (1, _) => format!("all {all} outputs differ"),
        (alike, 1) => format!("{alike} outputs are identical, 1 differs"),
        (alike, others) => format!("{alike} outputs are identical, {others} differ"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(names: &[&str], stdout: &str) -> Group {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Group { names, shown: Shown { stdout: stdout.into(), ..Shown::default() } }
    }

    #[test]
    fn heading_counts_and_names_agents() {
        assert_eq!(group(&["a", "b"], "").heading(), "2 agents: a, b");
        assert!(group(&["x"; 15], "").heading().ends_with(" and 3 more"));
    }

    #[test]
    fn summary_counts_what_is_alike() {
        let groups = [group(&["a", "b"], "1"), group(&["c"], "2")];
        assert_eq!(summary(&groups), "2 outputs are identical, 1 differs");
        assert_eq!(summary(&[group(&["a"], "1"), group(&["c"], "2")]), "all 2 outputs differ");
    }

    #[test]
    fn lines_of_a_script_are_indented_and_cannot_imitate_a_heading() {
        let mut out = Vec::new();
        group(&["a"], "one\n2 agents: b, c:\nend").write(&mut out, false).expect("memory");
        assert_eq!(out, b"  one\n  2 agents: b, c:\n  end\n");
        let mut out = Vec::new();
        write_line(&mut out, "", b"\x1b[1Aup\rx", true).expect("memory");
        assert_eq!(out, b"  upx\n");
    }

    #[test]
    fn differences_are_those_of_text() {
        let usual = group(&["a", "b"], "one\ntwo\n");
        let other = group(&["c"], "one\nTWO\n");
        assert_eq!(other.differences(&usual).expect("text"), ["  one", "- two", "+ TWO"]);
        assert_eq!(group(&["c"], "").differences(&usual), None);
    }
}
