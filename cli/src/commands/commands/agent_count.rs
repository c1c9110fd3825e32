//! The number of agents that a request reaches, typed by a person where the server asks for it.

use std::io::{self, IsTerminal as _, Write as _};

use crate::error::CliError;
use crate::output::text::sanitize;

/// The code of a refusal that asks for the number.
const UNCONFIRMED: &str = "agent_count_unconfirmed";

/// Asks at a terminal for the number that a refusal names. `given`: the number that was sent.
///
/// # Errors
/// The refusal, if it is another one, a number was sent, another number is typed, or this is no terminal.
pub fn confirm(refusal: CliError, given: Option<u32>) -> Result<u64, CliError> {
    let CliError::Refused(problem) = &refusal else { return Err(refusal) };
    let count = problem.errors.first().and_then(|error| error.limit.as_u64());
    let is_person = io::stdin().is_terminal() && io::stderr().is_terminal();
    let Some(count) = count.filter(|_| problem.code == UNCONFIRMED && given.is_none() && is_person)
    else {
        return Err(refusal);
    };
    let mut stderr = io::stderr().lock();
    write!(stderr, "{}\nType the number of agents: ", sanitize(&question(count)))?;
    stderr.flush()?;
    let mut typed = String::new();
    io::stdin().read_line(&mut typed)?;
    if typed.trim().parse() == Ok(count) { Ok(count) } else { Err(refusal) }
}

fn question(count: u64) -> String {
    format!("The ladder of your tenant asks to confirm that this reaches {count} agents.")
}
