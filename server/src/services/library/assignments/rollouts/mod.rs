//! Rollouts of assignments: what people decide about them. [`reconciliation`] starts the waves.

mod reconciliation;
mod request;

use serde_json::json;

pub use self::reconciliation::RolloutActivity;
pub use self::request::RolloutRequest;
use super::request::AssignmentRequest;
use super::{Assignments, require_change, subject};
use crate::domain::commands::ladder::Confirmation;
use crate::domain::ids::AssignmentId;
use crate::domain::library::assignment_records::AssignmentRecord;
use crate::domain::library::assignment_rollout::{AssignmentRollout, RolloutState};
use crate::services::access::caller::Caller;
use crate::services::error::{Result, ServiceError};
use crate::store::queries::RolloutDecision;

/// An assignment, with its rollout while one is under way.
#[derive(Debug, Clone)]
pub struct AssignmentSnapshot {
    pub row: AssignmentRecord,
    pub rollout: Option<AssignmentRollout>,
}

impl Assignments {
    /// Continues after a halt: agents that failed count no more, and the health gate of the last wave is waived.
    /// Repeatable: a rollout that runs stays as it is.
    ///
    /// # Errors
    /// 403; 404; 409 `no_rollout`, `assignment_changed`.
    pub async fn resume_rollout(
        &self,
        caller: &Caller,
        id: AssignmentId,
    ) -> Result<AssignmentSnapshot> {
        let (row, rollout) = self.under_way(caller, id).await?;
        if rollout.state == RolloutState::Running {
            return Ok(AssignmentSnapshot { row, rollout: Some(rollout) });
        }
        self.check_spreading(caller, &row).await?;
        self.decide(caller, "assignment.resume", &row, RolloutDecision::Resume(rollout)).await?;
        self.snapshot(caller, id).await
    }

    /// Brings the version to all agents at once, and ends the rollout.
    ///
    /// # Errors
    /// As [`Assignments::resume_rollout`].
    pub async fn finish_rollout(
        &self,
        caller: &Caller,
        id: AssignmentId,
    ) -> Result<AssignmentSnapshot> {
        let (row, rollout) = self.under_way(caller, id).await?;
        self.check_spreading(caller, &row).await?;
        self.decide(caller, "assignment.finish", &row, RolloutDecision::Finish(rollout)).await?;
        self.snapshot(caller, id).await
    }

    /// Brings the former version back to all agents, and ends the rollout.
    ///
    /// # Errors
    /// As [`Assignments::resume_rollout`]; 409 `no_former_version` of a new assignment.
    pub async fn abort_rollout(
        &self,
        caller: &Caller,
        id: AssignmentId,
    ) -> Result<AssignmentSnapshot> {
        let (row, rollout) = self.under_way(caller, id).await?;
        let Some(former) = rollout.former.clone() else {
            return Err(ServiceError::Conflict {
                code: "no_former_version",
                detail: "the assignment is new, so its agents had no version before; delete the assignment instead".into(),
            });
        };
        let was_changed_at = row.changed_at;
        let row = AssignmentRecord {
            content_id: former.content_id,
            content_version: former.version,
            changed_at: self.clock.now().max(was_changed_at.plus_ms(1)),
            ..row
        };
        let decision =
            RolloutDecision::Abort { rollout, row: Box::new(row.clone()), was_changed_at };
        self.decide(caller, "assignment.abort", &row, decision).await?;
        self.snapshot(caller, id).await
    }

    /// One assignment with its rollout.
    pub(super) async fn snapshot(
        &self,
        caller: &Caller,
        id: AssignmentId,
    ) -> Result<AssignmentSnapshot> {
        let row = self.find(caller, id).await?;
        let rollout = self.store.tenant(row.tenant_id).assignment_rollout(id).await?;
        Ok(AssignmentSnapshot { row, rollout })
    }

    /// The rollout of an assignment that the caller may change.
    async fn under_way(
        &self,
        caller: &Caller,
        id: AssignmentId,
    ) -> Result<(AssignmentRecord, AssignmentRollout)> {
        require_change(caller)?;
        let AssignmentSnapshot { row, rollout } = self.snapshot(caller, id).await?;
        caller.require_control(row.created_by)?;
        match rollout {
            Some(rollout) => Ok((row, rollout)),
            None => Err(ServiceError::Conflict {
                code: "no_rollout",
                detail: "no rollout of this assignment is under way; all its agents get the version that it names".into(),
            }),
        }
    }

    /// Checks that the caller may bring the version to the other agents. Their number was confirmed when the rollout
    /// began.
    async fn check_spreading(&self, caller: &Caller, row: &AssignmentRecord) -> Result<()> {
        let confirmation = Some(Confirmation::AtMost(u64::MAX));
        let request = AssignmentRequest { confirmation, ..AssignmentRequest::default() };
        self.check_work(caller, row, &request).await
    }

    async fn decide(
        &self,
        caller: &Caller,
        action: &str,
        row: &AssignmentRecord,
        decision: RolloutDecision,
    ) -> Result<()> {
        let detail = json!({"name": row.name, "script": row.reference()});
        let audit = caller.audit(action, subject(row.id), &detail, self.clock.now());
        if !self.store.tenant(row.tenant_id).decide_rollout(decision, audit).await? {
            return Err(ServiceError::Conflict {
                code: "assignment_changed",
                detail: "the rollout went on at the same time; read the assignment and try again"
                    .into(),
            });
        }
        self.announce_rollouts();
        Ok(())
    }

    /// Wakes those that start waves and that send assignments.
    pub(super) fn announce_rollouts(&self) {
        self.rollouts_changed.notify_one();
        self.changed.notify_one();
    }
}
