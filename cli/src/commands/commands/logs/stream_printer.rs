//! Prints the streams of an execution to the streams of this process.

use std::io::{self, IsTerminal as _, Write as _};

use crate::api::output_stream::{OutputEnd, Stream};
use crate::error::CliError;
use crate::output::terminal_filter::TerminalFilter;

pub const MISSING_OUTPUT: &str = "warning: some of the output is missing";

/// Prints the streams of one execution; filters what a terminal gets.
pub struct StreamPrinter {
    requested: Option<Stream>,
    filters: [Option<TerminalFilter>; 2],
}

impl StreamPrinter {
    pub fn new(requested: Option<Stream>, raw: bool) -> Self {
        let filter =
            |stream| (!raw && goes_to_terminal(requested, stream)).then(TerminalFilter::default);
        Self { requested, filters: [filter(Stream::Stdout), filter(Stream::Stderr)] }
    }

    pub fn print(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), CliError> {
        match &mut self.filters[usize::from(stream == Stream::Stderr)] {
            Some(filter) => write(self.requested, stream, &filter.filter(bytes)),
            None => write(self.requested, stream, bytes),
        }
    }

    pub fn finish(&mut self) -> Result<(), CliError> {
        for (stream, filter) in [Stream::Stdout, Stream::Stderr].into_iter().zip(&mut self.filters)
        {
            if let Some(filter) = filter {
                write(self.requested, stream, filter.finish())?;
            }
        }
        Ok(())
    }
}

/// True if output is known to be missing.
pub fn is_incomplete(end: Option<OutputEnd>) -> bool {
    end.and_then(|end| end.is_output_incomplete) == Some(true)
}

/// Whether a terminal shows what is written of a stream.
pub fn goes_to_terminal(requested: Option<Stream>, stream: Stream) -> bool {
    match (requested, stream) {
        (None, Stream::Stderr) => io::stderr().is_terminal(),
        _ => io::stdout().is_terminal(),
    }
}

/// Writes to the same stream of this process, or to standard output if only one stream is requested.
pub fn write(requested: Option<Stream>, stream: Stream, bytes: &[u8]) -> Result<(), CliError> {
    match (requested, stream) {
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
