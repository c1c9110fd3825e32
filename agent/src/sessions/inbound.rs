//! Handles the frames that the server sends.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use muster_protocol::CommandName;
use muster_protocol::commands::capsule::Capsule;
use muster_protocol::frame::{
    Ack, AgentFrame, Command, DecodeError, Outcome, ServerFrame, decode_server_frame,
};
use muster_protocol::limits::{CANCEL_GRACE_MS, MAX_JSON_DEPTH};
use muster_protocol::release::Version;
use tokio::time::Instant;
use uuid::Uuid;

use super::{EXIT_RECEIPT_TIMEOUT, FRAMES_PER_BATCH, PendingExit, Session, SessionEnd};
use crate::agent::request_log::{REKEY, RequestRecord};
use crate::clock::unix_ms;
use crate::commands;
use crate::commands::decision::{self, CommandDecision, DecisionInput};
use crate::executions::ledger::record::refusal;
use crate::executions::ledger::{KnownState, NewCommand, Phase};
use crate::fault::Fault;
use crate::link::{Incoming, LinkError};
use crate::platform;
use crate::policy::Forbidden;
use crate::releases::update_requests;
use crate::storage::StorageError;

/// Longest reconnect delay that a server may request.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(3600);
/// Longest grace period that a server may request.
const MAX_GRACE_MS: u64 = 60 * CANCEL_GRACE_MS;

impl Session<'_> {
    /// Handles a frame and those that follow directly, so that acceptances share their syncs.
    pub(super) fn receive_batch(
        &mut self,
        first: Result<Incoming, LinkError>,
    ) -> Result<(), SessionEnd> {
        let mut accepting = Vec::new();
        let mut next = Some(first);
        let mut taken = 0;
        let outcome = loop {
            let Some(incoming) = next.take() else { break Ok(()) };
            taken += 1;
            let outcome = match incoming {
                Ok(Incoming::Text(text)) => self.handle_text(&text, &mut accepting),
                Ok(Incoming::Binary) => {
                    self.log_unexpected("binary", "the server sent a binary frame");
                    Ok(())
                }
                Ok(Incoming::Closed { code, reason }) => Err(SessionEnd::closed(code, reason)),
                Err(error) => Err(SessionEnd::Broken(error)),
            };
            if outcome.is_err() || taken >= FRAMES_PER_BATCH || self.pending_exit.is_some() {
                break outcome;
            }
            next = self.link.receive().now_or_never();
        };
        // Also before the session ends: these frames are not delivered again.
        self.accept(&mut accepting);
        outcome
    }

    fn handle_text(
        &mut self,
        text: &str,
        accepting: &mut Vec<NewCommand>,
    ) -> Result<(), SessionEnd> {
        self.last_received_at = Instant::now();
        if is_too_deep(text) {
            self.log_unexpected("deep", "the server sent a frame that is nested too deeply");
            return Ok(());
        }
        let frame = match decode_server_frame(text) {
            Ok(frame) => frame,
            Err(error) => {
                let kind = match &error {
                    DecodeError::UnknownType(_) => "unknown",
                    DecodeError::InvalidFrame { .. } => "invalid",
                    DecodeError::MalformedJson(_) => "malformed",
                };
                self.log_unexpected(kind, &error.to_string());
                return Ok(());
            }
        };
        match frame {
            ServerFrame::Command(command) => self.handle_command(&command, accepting),
            ServerFrame::Cancel { command_id, grace_ms } => {
                // A command and its cancellation may arrive in one batch: they are handled in
                // order.
                self.accept(accepting);
                // An update can't be cancelled half-way.
                if self.agent.update_requests.is_open(command_id) {
                    return Ok(());
                }
                let record = RequestRecord::accepted("cancel");
                let record = RequestRecord { command_id: Some(command_id), ..record };
                self.agent.request_log.append(&record);
                self.agent.executions.cancel(command_id, grace_ms.min(MAX_GRACE_MS));
            }
            ServerFrame::Ack(ack) => self.handle_ack(&ack),
            ServerFrame::Drain { reconnect_delay_ms } => {
                let delay = Duration::from_millis(reconnect_delay_ms);
                return Err(SessionEnd::Drained(delay.min(MAX_RECONNECT_DELAY)));
            }
            ServerFrame::Rekey { key, .. } => self.rekey(key),
            ServerFrame::Error { code, message } => {
                self.agent.frame_log.rejected(code, &message);
            }
            ServerFrame::HeartbeatAck { .. } => {
                if let Some(sent_at) = self.lone_heartbeat_at.take()
                    && self.outbox.is_idle()
                {
                    self.outbox.note_round_trip(sent_at.elapsed());
                }
            }
            ServerFrame::Connected { permissions, .. } => {
                self.permissions = permissions;
                let is_permitted = self.permissions.allows(CommandName::Execute);
                self.agent.executions.permit_tasks(is_permitted);
            }
            ServerFrame::Assignments { revision, items } => self.assign(revision, items),
            ServerFrame::Certificate { certificate } => self.agent.store_certificate(certificate),
            ServerFrame::Authorities(notice) => self.follow_authority(&notice),
            ServerFrame::Deregistered => return self.handle_deregistered(),
            ServerFrame::Registered(_) => {
                self.log_unexpected("registered", "the server registered twice in one session");
            }
        }
        Ok(())
    }

    fn handle_command(&mut self, command: &Command, accepting: &mut Vec<NewCommand>) {
        let id = command.command_id;
        if accepting.iter().any(|new| new.command_id == id) {
            return;
        }
        // The server requests `scripts` if it doubts what it knows, so changes are sent first.
        if self.agent.reload_policy_and_manifest() {
            self.push(&self.agent.manifest_frame());
        }
        let input = DecisionInput {
            permissions: &self.permissions,
            manifest: self.agent.manifest.current(),
            manifest_refusal: self.agent.manifest.refusal(),
            policy: self.agent.policy.current(),
            context: self.agent.command_context(),
            known: self.known_state(id),
            is_full: self.agent.executions.is_full(accepting.len()),
            free_bytes: platform::disk_free_bytes(self.agent.state.path()).ok(),
            output: self.output,
            update: self.agent.update_requests.check_available(),
            now_ms: unix_ms(),
            is_capsule_used: self.agent.used_capsules.contains(id),
            minimum_versions: &self.agent.minimum_versions,
            forgotten_until_ms: self.agent.used_capsules.forgotten_until_ms(),
            fingerprint: self.agent.fingerprint(),
            is_deregistering: self.deregistration.is_some(),
        };
        let decision = decision::decide(command, &input);
        let starts = matches!(
            decision,
            CommandDecision::Accept(_)
                | CommandDecision::Update { .. }
                | CommandDecision::End { .. }
        );
        let uses_capsule = starts && commands::needs_capsule(input.policy, command);
        if let Some(record) = RequestRecord::of(command, &decision) {
            self.agent.request_log.append(&record);
        }
        let used = command.capsule.as_ref().filter(|_| uses_capsule);
        if let Some(Ok(approved)) = used.map(Capsule::read)
            && let Err(error) = self.agent.used_capsules.add(id, approved.expires_at_ms)
        {
            self.reject(id, &error);
            return;
        }
        if let CommandDecision::Accept(new) = &decision {
            for minimum in &new.minimums {
                if let Err(error) = self.agent.minimum_versions.raise(minimum) {
                    self.reject(id, &error);
                    return;
                }
            }
        }
        let request_id = decision::request_id(command);
        match decision {
            CommandDecision::Answer(response) => self.push(&AgentFrame::Response(response)),
            CommandDecision::Accept(new) => accepting.push(*new),
            CommandDecision::Repeat(known) => self.resend_state(id, known),
            CommandDecision::Refuse(response) => {
                tracing::info!(command_id = %id, request_id, code = ?response.error_code, "refused");
                self.agent.executions.settle(response);
            }
            CommandDecision::Update { version, reinstall } => {
                self.exit_for_update(Some(id), version, reinstall);
            }
            CommandDecision::End { command, code, response } => {
                // Without a durable answer the next agent process would do the same again.
                if let Err(error) = self.agent.executions.settle_durably(response) {
                    self.reject(id, &error);
                    return;
                }
                tracing::info!(command_id = %id, request_id, %command, "a command ends the agent");
                self.pending_exit = Some(PendingExit {
                    code,
                    command_id: id,
                    until: Instant::now() + EXIT_RECEIPT_TIMEOUT,
                });
            }
        }
    }

    /// Installs the version that the server desires, if the host permits it. The owner of the host
    /// sees the request, also if it is refused.
    pub(super) fn apply_desired_version(&mut self, version: Version) {
        let record = RequestRecord::desired_version(&version.to_string());
        let refusal = if !self.agent.permits(Forbidden::Update) {
            Some(("forbidden_by_policy", "the policy of this host forbids `update`"))
        } else if self.agent.needs_approved_updates() {
            Some((
                "capsule_required",
                "the policy of this host asks for a signed approval of updates, which a group can't have",
            ))
        } else if !self.permissions.allows(CommandName::Update) {
            Some(("not_permitted", "the agent key does not permit `update`"))
        } else {
            None
        };
        if let Some((code, reason)) = refusal {
            self.agent.request_log.append(&record.refused(code, reason));
            return;
        }
        self.agent.request_log.append(&record);
        self.exit_for_update(None, version, false);
    }

    /// Ends the process for an update, once the request is written for the supervisor.
    pub(super) fn exit_for_update(
        &mut self,
        command_id: Option<Uuid>,
        version: Version,
        reinstall: bool,
    ) {
        let code = update_requests::exit_code(&version);
        let requests = &mut self.agent.update_requests;
        if let Err(error) = requests.submit(command_id, version.clone(), reinstall) {
            match command_id {
                Some(id) => self.reject(id, &error),
                None => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "failed to write an update request");
                }
            }
            return;
        }
        tracing::info!(%version, "exiting so that the supervisor installs a release");
        let acceptance_count = self.agent.executions.ledger().head().acceptance_count;
        if let Some(command_id) = command_id {
            self.push(&AgentFrame::Accepted { command_id, acceptance_count });
            self.push(&AgentFrame::Started { command_id });
        }
        let command_id = command_id.unwrap_or_default();
        self.pending_exit =
            Some(PendingExit { code, command_id, until: Instant::now() + EXIT_RECEIPT_TIMEOUT });
    }

    fn accept(&mut self, accepting: &mut Vec<NewCommand>) {
        if accepting.is_empty() {
            return;
        }
        let request_ids: HashMap<_, _> =
            accepting.iter_mut().map(|new| (new.command_id, new.request_id.take())).collect();
        for (command_id, outcome) in self.agent.executions.accept(std::mem::take(accepting)) {
            match outcome {
                Ok(acceptance_count) => {
                    let request_id = request_ids.get(&command_id).and_then(Option::as_deref);
                    tracing::info!(%command_id, request_id, "accepted");
                    self.push(&AgentFrame::Accepted { command_id, acceptance_count });
                }
                Err(error) => self.reject(command_id, &error),
            }
        }
    }

    fn known_state(&self, command_id: Uuid) -> KnownState {
        if self.agent.update_requests.is_open(command_id) {
            return KnownState::Open(Phase::Running);
        }
        if Fault::ForgottenCommands.is_on() {
            return KnownState::Never;
        }
        self.agent.executions.ledger().known(command_id)
    }

    fn reject(&mut self, command_id: Uuid, error: &StorageError) {
        let (code, text) = if error.is_no_space() {
            ("no_space", decision::no_space())
        } else {
            let text = "the host can't write to its state directory; see the agent's log";
            ("storage_failed", text.to_owned())
        };
        tracing::error!(%command_id, error = error as &dyn std::error::Error, "failed to accept a command");
        self.agent.executions.settle(refusal(command_id, Outcome::Rejected, code, text));
    }

    /// Reports the state of a command that was delivered before.
    fn resend_state(&mut self, command_id: Uuid, known: KnownState) {
        let acceptance_count = self.agent.executions.ledger().head().acceptance_count;
        match known {
            KnownState::Open(phase @ (Phase::Waiting | Phase::Running)) => {
                self.push(&AgentFrame::Accepted { command_id, acceptance_count });
                if phase == Phase::Running && self.agent.executions.is_started(command_id) {
                    self.push(&AgentFrame::Started { command_id });
                }
                self.outbox.enqueue(command_id);
            }
            KnownState::Open(Phase::Settled) | KnownState::Receipted => {
                self.outbox.resend_result(command_id)
            }
            KnownState::Never => {}
        }
    }

    fn handle_ack(&mut self, ack: &Ack) {
        if ack.receipt.is_none() {
            let is_known_again = self.outbox.awaits_offset(ack.command_id);
            self.outbox.acknowledge(ack.command_id, ack.offset_bytes);
            if is_known_again {
                self.push_step_progress(ack.command_id);
            }
            return;
        }
        tracing::debug!(command_id = %ack.command_id, receipt = ?ack.receipt, "receipt");
        self.agent.executions.ledger_mut().receipt(ack.command_id);
        match self.agent.executions.ledger().entry(ack.command_id) {
            None => {
                self.announced_runs.remove(&ack.command_id);
                self.outbox.remove(ack.command_id);
            }
            // The server does not know the command, or has ended it, while it still runs here: its
            // output is not needed, and its result is reported when it ends.
            Some(_) => self.outbox.stop_output(ack.command_id),
        }
    }

    fn rekey(&mut self, key: String) {
        if !self.agent.permits(Forbidden::Rekey) {
            let reason = "the host's policy forbids a new key";
            let record = RequestRecord::accepted(REKEY).refused("forbidden_by_policy", reason);
            self.agent.request_log.append(&record);
            self.log_unexpected("forbidden rekey", reason);
            return;
        }
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.log_unexpected("rekey", "the server issued a key with invalid characters");
            return;
        }
        match self.agent.keys.replace(key, &self.agent.state) {
            Ok(()) => {
                self.agent.request_log.append(&RequestRecord::accepted(REKEY));
                tracing::info!("the server issued a new key to this agent");
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "failed to store the new key; the old one stays in use");
            }
        }
    }

    pub(super) fn log_unexpected(&mut self, kind: &'static str, message: &str) {
        self.agent.frame_log.ignored(kind, message);
    }
}

/// True if the text is nested more deeply than either side accepts.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut is_string, mut is_escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_string => is_escaped = true,
            b'"' => is_string = !is_string,
            b'{' | b'[' if !is_string => {
                depth += 1;
                if depth > MAX_JSON_DEPTH {
                    return true;
                }
            }
            b'}' | b']' if !is_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}
