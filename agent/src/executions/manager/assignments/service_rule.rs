//! When a service is started and ended: a rule over what is known, without clocks and files.

use std::time::Duration;

use muster_protocol::frame::Outcome;
use muster_protocol::package::{RestartPolicy, ServiceControl, ServiceState};
use muster_protocol::program::backoff::Delays;
use serde::{Deserialize, Serialize};

/// Most time before the first restart.
const FIRST_RESTART_DELAY: Duration = Duration::from_secs(2);
/// Most time before each later one: 5 min.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(300);
/// A run of this length is no failed start, whatever its end: 10 min.
const STABLE_MS: u64 = 600_000;
/// Ends in a row after which the delay grows no more.
const MAX_COUNTED_FAILURES: u32 = 12;
/// Longest code of an error that is kept, in characters.
const MAX_CODE_CHARS: usize = 64;

/// What a host knows about a service. It is stored before anything follows from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// SHA-256 of the document of the last run.
    document_sha256: String,
    /// When it was started, in milliseconds since the Unix epoch. Its id follows from it.
    pub started_at_ms: Option<u64>,
    /// Its end was not handled yet.
    pub has_run: bool,
    /// Its end was requested, so it is no failure.
    is_end_requested: bool,
    /// Ends in a row that were no requested ones, each soon after its start.
    failures: u32,
    pub restart_count: u64,
    seen_restart_requests: u64,
    pub restart_at_ms: Option<u64>,
    /// Its restart policy does not start it again.
    is_ended: bool,
    pub last_outcome: Option<Outcome>,
    pub last_error_code: Option<String>,
}

/// What holds at the moment.
#[derive(Debug, Clone, Copy)]
pub struct ServiceFacts<'a> {
    pub document_sha256: &'a str,
    pub control: ServiceControl,
    /// The policy of the host, or the permissions of the agent's key, refuse it.
    pub is_refused: bool,
    /// The archive of this document is there.
    pub is_installed: bool,
    /// It has a run that has not ended.
    pub is_running: bool,
    pub now_ms: u64,
}

/// What has to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceStep {
    Keep,
    Start,
    /// Request the end of the run. Repeated requests do no harm.
    End,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct ServiceRunEnd {
    pub outcome: Outcome,
    pub error_code: Option<String>,
    pub duration_ms: u64,
}

impl ServiceRecord {
    /// Decides the next step.
    pub fn next_step(&mut self, facts: ServiceFacts<'_>) -> ServiceStep {
        let is_new_version = self.document_sha256 != facts.document_sha256;
        let requests = facts.control.restart_requests;
        let is_restart_requested = requests > self.seen_restart_requests;
        if facts.is_running {
            let is_replaced = is_new_version && facts.is_installed;
            let must_end = facts.control.is_stopped || facts.is_refused || is_replaced;
            if is_restart_requested {
                self.seen_restart_requests = requests;
            }
            self.is_end_requested |= must_end || is_restart_requested;
            return if self.is_end_requested { ServiceStep::End } else { ServiceStep::Keep };
        }
        let is_fresh = facts.control.is_stopped || is_new_version || is_restart_requested;
        if is_fresh {
            self.failures = 0;
            self.restart_at_ms = None;
            self.is_ended = false;
        }
        if is_new_version {
            self.restart_count = 0;
        }
        if facts.control.is_stopped {
            self.seen_restart_requests = requests;
        }
        if facts.control.is_stopped || facts.is_refused || !facts.is_installed || self.is_ended {
            return ServiceStep::Keep;
        }
        match self.restart_left(facts.now_ms) {
            None => ServiceStep::Start,
            Some(_) => ServiceStep::Keep,
        }
    }

    /// The time until the next start; `None` if it is over. A clock that was set back extends no delay.
    pub fn restart_left(&self, now_ms: u64) -> Option<Duration> {
        let left = Duration::from_millis(self.restart_at_ms?.saturating_sub(now_ms));
        (!left.is_zero() && left <= MAX_RESTART_DELAY).then_some(left)
    }

    /// A run was started.
    pub fn note_start(&mut self, facts: ServiceFacts<'_>, started_at_ms: u64) {
        if self.restart_at_ms.take().is_some() {
            self.restart_count = self.restart_count.saturating_add(1);
        }
        self.document_sha256 = facts.document_sha256.to_owned();
        self.seen_restart_requests = facts.control.restart_requests;
        self.started_at_ms = Some(started_at_ms);
        self.has_run = true;
        self.is_end_requested = false;
    }

    /// Takes a run over that the process before has started without storing it.
    pub fn adopt(&mut self, document_sha256: &str, started_at_ms: u64) {
        if !self.has_run || self.started_at_ms != Some(started_at_ms) {
            self.document_sha256 = document_sha256.to_owned();
            self.started_at_ms = Some(started_at_ms);
            self.has_run = true;
            self.is_end_requested = false;
        }
    }

    /// A run could not be started. `is_failure`: of the service, so that the delay grows.
    pub fn note_refusal(&mut self, code: &str, is_failure: bool, now_ms: u64) {
        self.last_outcome = Some(Outcome::Rejected);
        self.last_error_code = Some(code.chars().take(MAX_CODE_CHARS).collect());
        let failures = self.failures;
        self.delay_restart(now_ms);
        if !is_failure {
            self.failures = failures;
        }
    }

    /// A run has ended.
    pub fn note_end(&mut self, end: ServiceRunEnd, policy: RestartPolicy, now_ms: u64) {
        self.has_run = false;
        self.last_outcome = Some(end.outcome);
        let code = end.error_code.map(|code| code.chars().take(MAX_CODE_CHARS).collect());
        self.last_error_code = code;
        if std::mem::take(&mut self.is_end_requested) {
            self.failures = 0;
            self.restart_at_ms = None;
            return;
        }
        let starts_again = match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => end.outcome != Outcome::Succeeded,
            RestartPolicy::Never => false,
        };
        if !starts_again {
            self.is_ended = true;
            return;
        }
        if end.duration_ms >= STABLE_MS {
            self.failures = 0;
        }
        self.delay_restart(now_ms);
    }

    fn delay_restart(&mut self, now_ms: u64) {
        self.failures = self.failures.saturating_add(1).min(MAX_COUNTED_FAILURES);
        let mut delays = Delays::new(FIRST_RESTART_DELAY, MAX_RESTART_DELAY);
        let delay = (0..self.failures).map(|_| delays.next_delay()).last().unwrap_or_default();
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.restart_at_ms = Some(now_ms.saturating_add(delay_ms));
    }

    /// What it does, for reports.
    pub fn state(&self, facts: ServiceFacts<'_>) -> ServiceState {
        match () {
            () if facts.is_running && self.is_end_requested => ServiceState::Stopping,
            () if facts.is_running => ServiceState::Running,
            () if facts.control.is_stopped => ServiceState::Stopped,
            () if facts.is_refused || !facts.is_installed => ServiceState::Waiting,
            () if self.is_ended => ServiceState::Ended,
            () if self.restart_at_ms.is_some() => ServiceState::Backoff,
            () => ServiceState::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FACTS: ServiceFacts<'static> = ServiceFacts {
        document_sha256: "one",
        control: ServiceControl { is_stopped: false, restart_requests: 0 },
        is_refused: false,
        is_installed: true,
        is_running: false,
        now_ms: 1_000_000,
    };

    fn ended(outcome: Outcome, duration_ms: u64) -> ServiceRunEnd {
        ServiceRunEnd { outcome, error_code: Some("exit_code".into()), duration_ms }
    }

    fn running() -> ServiceRecord {
        let mut record = ServiceRecord::default();
        assert_eq!(record.next_step(FACTS), ServiceStep::Start);
        record.note_start(FACTS, FACTS.now_ms);
        record
    }

    fn is_started_after(outcome: Outcome, policy: RestartPolicy) -> bool {
        let mut record = running();
        record.note_end(ended(outcome, 0), policy, FACTS.now_ms);
        let later = ServiceFacts { now_ms: FACTS.now_ms + 2_001, ..FACTS };
        let step = record.next_step(later);
        assert_eq!(record.state(later) == ServiceState::Ended, step == ServiceStep::Keep);
        step == ServiceStep::Start
    }

    #[test]
    fn the_restart_policy_decides_about_an_end_that_was_not_requested() {
        use RestartPolicy::{Always, Never, OnFailure};
        for (outcome, started) in [
            (Outcome::Succeeded, [true, false, false]),
            (Outcome::Failed, [true, true, false]),
            (Outcome::Cancelled, [true, true, false]),
            (Outcome::Lost, [true, true, false]),
        ] {
            let policies = [Always, OnFailure, Never];
            assert_eq!(policies.map(|policy| is_started_after(outcome, policy)), started);
        }
    }

    #[test]
    fn delays_are_bounded_and_a_stable_run_resets_them() {
        let mut record = running();
        let mut longest = 0;
        for _ in 0..200 {
            record.note_end(ended(Outcome::Failed, 1), RestartPolicy::Always, FACTS.now_ms);
            let delay = record.restart_at_ms.expect("a delay") - FACTS.now_ms;
            assert!(delay <= 300_000, "{delay}");
            longest = longest.max(delay);
        }
        assert!(longest > 10_000, "{longest}");
        record.note_end(ended(Outcome::Failed, STABLE_MS), RestartPolicy::Always, FACTS.now_ms);
        assert!(record.restart_at_ms.expect("a delay") - FACTS.now_ms <= 2_000);
        // A clock that is set back far does not extend it.
        record.restart_at_ms = Some(FACTS.now_ms + 400_000);
        assert_eq!(record.next_step(FACTS), ServiceStep::Start);
    }

    #[test]
    fn requests_end_a_run_and_only_a_stop_keeps_it_from_starting() {
        let live = ServiceFacts { is_running: true, ..FACTS };
        let control =
            |is_stopped, restart_requests| ServiceControl { is_stopped, restart_requests };
        let cases = [
            ServiceFacts { control: control(true, 0), ..live },
            ServiceFacts { control: control(false, 1), ..live },
            ServiceFacts { is_refused: true, ..live },
            ServiceFacts { document_sha256: "two", ..live },
        ];
        for facts in cases {
            let mut record = running();
            assert_eq!(record.next_step(live), ServiceStep::Keep);
            assert_eq!(record.next_step(facts), ServiceStep::End, "{facts:?}");
            assert_eq!(record.state(facts), ServiceState::Stopping);
            record.note_end(ended(Outcome::Cancelled, 5), RestartPolicy::Never, FACTS.now_ms);
            let after = ServiceFacts { is_running: false, ..facts };
            let may_start = !facts.control.is_stopped && !facts.is_refused;
            assert_eq!(record.next_step(after) == ServiceStep::Start, may_start, "{facts:?}");
        }
        // A new version that is not there yet replaces nothing.
        let mut record = running();
        let missing = ServiceFacts { document_sha256: "two", is_installed: false, ..live };
        assert_eq!(record.next_step(missing), ServiceStep::Keep);
        // A restart that was requested while it was stopped is none after its start.
        let stopped = ServiceFacts { control: control(true, 3), ..FACTS };
        assert_eq!(record.next_step(stopped), ServiceStep::Keep);
        assert_eq!(record.state(stopped), ServiceState::Stopped);
        let asked = ServiceFacts { control: control(false, 3), ..FACTS };
        assert_eq!(record.next_step(asked), ServiceStep::Start);
        record.note_start(asked, FACTS.now_ms);
        let live = ServiceFacts { is_running: true, ..asked };
        assert_eq!(record.next_step(live), ServiceStep::Keep);
    }

    proptest! {
        #[test]
        fn no_step_starts_a_second_run_or_one_that_must_not_run(
            facts in prop::collection::vec((any::<[bool; 4]>(), 0u64..4, 0u64..700_000, 0u8..3), 1..60),
        ) {
            let mut record = ServiceRecord::default();
            let mut is_running = false;
            for ([is_stopped, is_refused, is_installed, ends], restart_requests, now_ms, version) in facts {
                let document_sha256 = ["one", "two", "three"][usize::from(version)];
                let control = ServiceControl { is_stopped, restart_requests };
                let facts = ServiceFacts { document_sha256, control, is_refused, is_installed, is_running, now_ms };
                match record.next_step(facts) {
                    ServiceStep::Start => {
                        prop_assert!(!is_running && !is_stopped && !is_refused && is_installed);
                        record.note_start(facts, now_ms);
                        is_running = true;
                    }
                    ServiceStep::End => prop_assert!(is_running),
                    ServiceStep::Keep => prop_assert!(!is_running || !(is_stopped || is_refused)),
                }
                if is_running && ends {
                    record.note_end(ended(Outcome::Failed, 1), RestartPolicy::OnFailure, now_ms);
                    is_running = false;
                }
            }
        }
    }
}
