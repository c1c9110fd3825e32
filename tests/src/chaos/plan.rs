//! The plan of a run, derived from a seed only: its submissions and its faults, each with its time.
//!
//! Pure. The same seed and shape give the same plan. The timing of the machine in between is not
//! part of it.

use super::print::Print;
use super::random::Random;

/// The size of a plan, and its kinds of work and faults.
#[derive(Debug, Clone)]
pub struct Shape {
    pub hosts: usize,
    pub submissions: usize,
    pub planned_faults: usize,
    /// Each kind of fault with its weight.
    pub faults: Vec<(FaultKind, u64)>,
    /// How long most executions run, in milliseconds.
    pub stay_ms: std::ops::Range<u64>,
    /// Executions that may be queued before the next submission.
    pub backlog: usize,
}

/// Kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// kill -9, and a restart.
    KillServer,
    /// Stopped as an operator does it, and restarted.
    StopServer,
    /// The disk of the database loses power (SQLite), or the database stops (PostgreSQL).
    LoseStore,
    /// kill -9; the supervisor restarts it.
    KillAgent,
    /// kill -9, and a restart; the agent under it continues.
    KillSupervisor,
    /// kill -9 of the shim of a running execution.
    KillShim,
    /// Every process of the host dies at once, and data that was not synced to its disk is gone.
    CutHostPower,
    /// Connections break.
    CutLink,
    /// Connections break, and no new ones can be opened for a while.
    RefuseLink,
    /// Connections transfer nothing for a while, and do not break.
    SilenceLink,
    /// Connections break, and WebSockets are refused for a while.
    BlockUpgrades,
}

impl FaultKind {
    /// All of them, each as often as is useful.
    pub const ALL: [(Self, u64); 11] = [
        (Self::KillServer, 5),
        (Self::StopServer, 1),
        (Self::LoseStore, 2),
        (Self::KillAgent, 4),
        (Self::KillSupervisor, 2),
        (Self::KillShim, 4),
        (Self::CutHostPower, 3),
        (Self::CutLink, 4),
        (Self::RefuseLink, 1),
        (Self::SilenceLink, 1),
        (Self::BlockUpgrades, 1),
    ];
}

/// A fault and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedFault {
    /// Due once this many executions have started…
    pub begun: usize,
    /// …and this much time has passed since then.
    pub after_ms: u64,
    pub kind: FaultKind,
    /// The host that it affects, if it affects one.
    pub host: usize,
    /// Selects an execution, or a duration, depending on the kind.
    pub number: u64,
}

/// How an execution ends without faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Succeeds,
    /// With this exit code.
    Fails(u8),
    /// It runs until its timeout.
    RunsOutOfTime,
}

/// The target of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One command for this host.
    Host(usize),
    /// A job for the hosts with these numbers.
    Hosts(Vec<usize>),
    /// A job for all, by their tag.
    All,
}

/// One request to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub place: Target,
    pub print: Print,
    pub end: End,
    pub stay_ms: u64,
    pub timeout_ms: u64,
    pub expires_in_ms: u64,
    /// The manifest of the hosts has no such script.
    pub is_unlisted: bool,
    pub has_secret: bool,
    /// Cancelled after this many further submissions.
    pub cancel_after: Option<usize>,
}

/// The plan of a whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub submissions: Vec<Submission>,
    /// In the order of their times.
    pub planned_faults: Vec<PlannedFault>,
}

/// Long enough that nothing expires or times out by accident.
pub const AMPLE_MS: u64 = 3_600_000;

impl Plan {
    /// The plan of this seed.
    pub fn of(seed: u64, shape: &Shape) -> Self {
        let mut random = Random::new(seed);
        let submissions: Vec<_> =
            (0..shape.submissions).map(|_| submission(&mut random, shape)).collect();
        let executions: usize = submissions.iter().map(|it| it.executions(shape.hosts)).sum();
        // Some executions never start, so the last faults must not wait for them.
        let begin = (executions * 7 / 10).max(1) as u64;
        let count = if shape.faults.is_empty() { 0 } else { shape.planned_faults };
        let mut planned_faults: Vec<_> =
            (0..count).map(|number| strike(&mut random, shape, number, begin)).collect();
        planned_faults.sort_by_key(|strike| strike.begun);
        // Some follow at once, before the target of the previous one has recovered.
        for next in 1..planned_faults.len() {
            if random.is_in(30) {
                planned_faults[next].begun = planned_faults[next - 1].begun;
                planned_faults[next].after_ms = random.below(15);
            }
        }
        Self { submissions, planned_faults }
    }
}

impl Submission {
    /// Number of executions that it creates in a fleet of this many hosts.
    pub fn executions(&self, hosts: usize) -> usize {
        match &self.place {
            Target::Host(_) => 1,
            Target::Hosts(chosen) => chosen.len(),
            Target::All => hosts,
        }
    }
}

fn submission(random: &mut Random, shape: &Shape) -> Submission {
    let place = match random.below(10) {
        0 => Target::All,
        1 => {
            let chosen: Vec<_> = (0..shape.hosts).filter(|_| random.is_in(60)).collect();
            if chosen.is_empty() { Target::Hosts(vec![0]) } else { Target::Hosts(chosen) }
        }
        _ => Target::Host(random.below(shape.hosts as u64) as usize),
    };
    let code = random.within(1..120) as u8;
    let end = random.choose(&[(End::Succeeds, 80), (End::Fails(code), 8), (End::RunsOutOfTime, 6)]);
    let stays = random.within(shape.stay_ms.clone());
    let (stay_ms, timeout_ms) = match end {
        End::RunsOutOfTime => (AMPLE_MS, random.within(200..1_500)),
        End::Succeeds | End::Fails(_) => (stays, AMPLE_MS),
    };
    Submission {
        place,
        print: random.choose(&[
            (Print::Nothing, 20),
            (Print::Line, 50),
            (Print::Both, 25),
            (Print::Mebibyte, 5),
        ]),
        end,
        stay_ms,
        timeout_ms,
        expires_in_ms: if random.is_in(6) { random.within(1..200) } else { AMPLE_MS },
        is_unlisted: random.is_in(2),
        has_secret: random.is_in(15),
        cancel_after: random.is_in(8).then(|| random.below(8) as usize),
    }
}

fn strike(random: &mut Random, shape: &Shape, number: usize, begin: u64) -> PlannedFault {
    // Each kind once, then at random.
    let first = shape.faults.get(number).map(|(kind, _)| *kind);
    PlannedFault {
        begun: 1 + random.below(begin) as usize,
        after_ms: random.below(120),
        kind: first.unwrap_or_else(|| random.choose(&shape.faults)),
        host: random.below(shape.hosts as u64) as usize,
        number: random.roll(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            hosts: 3,
            submissions: 400,
            planned_faults: 60,
            faults: FaultKind::ALL.into(),
            stay_ms: 0..100,
            backlog: 20,
        }
    }

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        assert_eq!(Plan::of(1, &shape()), Plan::of(1, &shape()));
        assert_ne!(Plan::of(1, &shape()), Plan::of(2, &shape()));
    }

    #[test]
    fn a_plan_has_work_of_every_end_and_blows_of_every_kind() {
        let plan = Plan::of(3, &shape());
        let some = |is: &dyn Fn(&Submission) -> bool| plan.submissions.iter().any(is);
        assert!(some(&|it| it.end == End::Succeeds) && some(&|it| it.end == End::RunsOutOfTime));
        assert!(some(&|it| matches!(it.end, End::Fails(_))) && some(&|it| it.is_unlisted));
        assert!(some(&|it| it.cancel_after.is_some()) && some(&|it| it.expires_in_ms < 200));
        for (kind, _) in FaultKind::ALL {
            assert!(plan.planned_faults.iter().any(|strike| strike.kind == kind), "{kind:?}");
        }
        assert!(plan.planned_faults.is_sorted_by_key(|strike| strike.begun));
    }
}
