//! The invariants of a command, which hold in every state.

use muster_protocol::frame::Outcome;
use muster_server::domain::commands::command_state::{CommandState, EndReason};

use super::world::{Network, World};

/// The invariant that a state violates, if any.
pub fn of(world: &World) -> Option<&'static str> {
    let World { server, ledger, run, .. } = world;
    let unsent = [EndReason::ExpiredInQueue, EndReason::CancelledInQueue];
    let is_unsent = server.state == CommandState::Queued
        || server.reason.is_some_and(|reason| unsent.contains(&reason));
    let may_be_lost = run.was_shim_killed || run.was_ledger_lost || run.was_away_too_long;
    let is_reported = server
        .report
        .is_some_and(|(outcome, is_late)| !is_late && server.state != CommandState::from(outcome));
    [
        (run.starts > 1, "it started twice"),
        (is_unsent && run.starts > 0, "it ran, but is marked as never sent"),
        (
            server.state == CommandState::Lost && !may_be_lost,
            "it is lost although its result was known",
        ),
        (is_reported, "its state differs from the report"),
        (
            ledger.is_receipted && server.report.map(|(outcome, _)| outcome) != ledger.settlement,
            "the host deleted a result that the server has not stored",
        ),
        (
            server.committed_bytes > run.produced_bytes && !run.was_ledger_lost,
            "stored output was never printed",
        ),
        (
            server.state == CommandState::Succeeded
                && world.network == Network::Links
                && !run.was_ledger_lost
                && server.committed_bytes != run.produced_bytes,
            "output is missing without a mark",
        ),
    ]
    .into_iter()
    .find_map(|(is_broken, promise)| is_broken.then_some(promise))
}

/// The invariant that a step violates, if any.
pub fn of_step(before: &World, after: &World) -> Option<&'static str> {
    let (was, is) = (&before.server, &after.server);
    let knows = after.ledger.has_command || after.ledger.settlement.is_some();
    let is_new = |state| was.state != state && is.state == state;
    let is_missing = is.reason == Some(EndReason::MissingFromInventory);
    [
        (was.state.is_terminal() && was.state != is.state, "a terminal state changed"),
        (was.report.is_some() && was.report != is.report, "a report was replaced"),
        (was.committed_bytes > is.committed_bytes, "committed output was removed"),
        (
            is_new(CommandState::Queued) && knows && !after.ledger.is_receipted,
            "it is queued again although the host has it",
        ),
        (
            is_new(CommandState::Lost) && is_missing && knows,
            "it is marked missing although the host has it",
        ),
        (
            before.ledger.settlement.is_some()
                && !after.run.was_ledger_lost
                && before.ledger.settlement != after.ledger.settlement,
            "the host changed its result",
        ),
    ]
    .into_iter()
    .find_map(|(is_broken, promise)| is_broken.then_some(promise))
}

/// The invariant that is violated when no move is left, if any.
pub fn of_the_end(world: &World) -> Option<&'static str> {
    let World { server, ledger, run, .. } = world;
    let ran = ledger.settlement.filter(|outcome| *outcome != Outcome::Lost);
    [
        (!server.state.is_terminal(), "it never ends"),
        (ledger.settlement.is_some() && !ledger.is_receipted, "its result is never acknowledged"),
        (run.shim.is_some(), "its process runs forever"),
        (
            ran.is_some() && !run.was_ledger_lost && server.report.is_none(),
            "its result is known but not stored",
        ),
    ]
    .into_iter()
    .find_map(|(is_broken, promise)| is_broken.then_some(promise))
}
