//! Examples and properties of a group's next step.

mod examples;
mod properties;

use super::cohort::Cohort;
use super::{CurrentWave, Member, MemberProgress, RolloutPolicy, UpdateState};
use crate::domain::ids::AgentId;
use crate::domain::time::Timestamp;
use crate::domain::waves::amount::Amount;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn policy(wave_size: u64, max_failures: u64) -> RolloutPolicy {
    RolloutPolicy {
        wave_size: Amount::Count(wave_size),
        max_failures: Amount::Count(max_failures),
        healthy_for_ms: 0,
    }
}

fn wave(number: i32) -> CurrentWave {
    CurrentWave { number, is_healthy: false }
}

fn healthy(number: i32) -> CurrentWave {
    CurrentWave { number, is_healthy: true }
}

fn member(state: Option<UpdateState>) -> Member {
    Member {
        id: AgentId::new(),
        is_online: true,
        connected_at: NOW,
        is_up_to_date: state == Some(UpdateState::Done),
        cohort: cohort("systemd"),
        progress: state.map(|state| MemberProgress {
            wave: 1,
            state,
            is_busy: false,
            due_at: NOW,
            changed_at: NOW,
            is_canary: false,
            is_probed: false,
        }),
    }
}

fn cohort(service_manager: &str) -> Cohort {
    Cohort::parse(&format!("linux/x86_64/{service_manager}"))
}
