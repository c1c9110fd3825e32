//! The last session of a host that leaves the fleet: what has ended is reported, nothing is begun,
//! and then the server is asked to delete this agent.

use std::time::Duration;

use muster_protocol::frame::AgentFrame;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Ending, Session};
use crate::ledger::Phase;
use crate::link::LinkError;

/// How long results may take to be reported, and receipted, before the host leaves without.
pub const REPORT_TIME: Duration = Duration::from_secs(15);
/// For `deregistered`.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// How far a host is on its way out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    /// `deregister` has been sent.
    is_asked: bool,
    /// The end of this step.
    until: Instant,
}

impl Leaving {
    pub(super) fn begin() -> Self {
        Self { is_asked: false, until: Instant::now() + REPORT_TIME }
    }
}

impl Session<'_> {
    /// Takes back what was accepted and never started, so that the server is told of it.
    pub(super) fn take_back_waiting(&mut self) {
        let entries = self.agent.custody.ledger().entries();
        let waiting: Vec<Uuid> = entries
            .filter(|(_, entry)| entry.phase == Phase::Waiting)
            .map(|(command_id, _)| command_id)
            .collect();
        for command_id in waiting {
            self.agent.custody.cancel(command_id, 0);
        }
    }

    /// Asks to be deleted once everything is reported or the time is up; ends the session if no
    /// answer comes.
    pub(super) fn go_on_leaving(&mut self) -> Result<(), Ending> {
        let Some(leaving) = self.leaving else { return Ok(()) };
        let is_over = Instant::now() >= leaving.until;
        if leaving.is_asked {
            if is_over {
                return Err(Ending::Broken(LinkError::TimedOut("deregister")));
            }
            return Ok(());
        }
        // A receipt comes after the inventory is reconciled; with nothing listed there is nothing
        // to wait for, since the server takes frames in their order.
        let is_all_told = self.agent.custody.ledger().entries().next().is_none();
        if is_over || is_all_told {
            self.push(&AgentFrame::Deregister);
            let until = Instant::now() + ANSWER_TIME;
            self.leaving = Some(Leaving { is_asked: true, until });
        }
        Ok(())
    }

    /// The server has deleted this agent. One that was not asked to is not believed.
    pub(super) fn take_deregistered(&mut self) -> Result<(), Ending> {
        if self.leaving.is_some_and(|leaving| leaving.is_asked) {
            return Err(Ending::Deregistered);
        }
        self.log_odd("deregistered", "the server deregisters an agent that did not ask for it");
        Ok(())
    }

    /// When the loop has to look again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let farewell = self.farewell.map(|farewell| farewell.until);
        let leaving = self.leaving.map(|leaving| leaving.until);
        farewell.into_iter().chain(leaving).chain(self.agent.desk.look_at()).min()
    }
}
