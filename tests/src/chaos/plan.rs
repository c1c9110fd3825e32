//! What is going to happen, made from a seed and nothing else: what is asked of the fleet, and
//! what is done to it, each with the moment at which its turn comes.
//!
//! Pure. The same seed and shape give the same plan; how the machine's own timing falls in
//! between is not the plan's.

use super::dice::Dice;
use super::print::Print;

/// How large a plan is, and of what it is made.
#[derive(Debug, Clone)]
pub struct Shape {
    pub hosts: usize,
    pub submissions: usize,
    pub strikes: usize,
    /// Each kind of blow with its weight.
    pub blows: Vec<(Kind, u64)>,
    /// How long most executions stay, in milliseconds.
    pub stay_ms: std::ops::Range<u64>,
    /// Executions that may be queued before the next ones are asked for.
    pub backlog: usize,
}

/// What may be done to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// kill -9, and start it again.
    KillServer,
    /// Ended as an operator does it, and started again.
    StopServer,
    /// The database's disk loses power (SQLite), or the database goes away (PostgreSQL).
    LoseStore,
    /// kill -9; the supervisor starts it again.
    KillAgent,
    /// kill -9, and start it again; the agent beneath it lives on.
    KillSupervisor,
    /// kill -9 of the keeper of one running job.
    KillShim,
    /// Every process of the host dies at once, and what was not synced to its disk is gone.
    CutHostPower,
    /// Connections break.
    CutLink,
    /// Connections break, and none can be made for a while.
    RefuseLink,
    /// Nothing passes for a while, and nobody is told.
    SilenceLink,
    /// Connections break, and WebSockets are refused for a while.
    BlockUpgrades,
}

impl Kind {
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

/// One blow and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// Comes once so many executions have begun…
    pub begun: usize,
    /// …and so much time has passed since.
    pub after_ms: u64,
    pub kind: Kind,
    /// The host that it is done to, if it is done to one.
    pub host: usize,
    /// Which of several jobs, and for how long: meaning depends on the kind.
    pub number: u64,
}

/// How a piece of work ends if nobody interferes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Succeeds,
    /// With this exit code.
    Fails(u8),
    /// It stays until its time is up.
    RunsOutOfTime,
}

/// Where a piece of work is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One command for this host.
    Host(usize),
    /// A job for the hosts with these numbers.
    Hosts(Vec<usize>),
    /// A job for all, by their tag.
    All,
}

/// Something that is asked of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub place: Place,
    pub print: Print,
    pub end: End,
    pub stay_ms: u64,
    pub timeout_ms: u64,
    pub expires_in_ms: u64,
    /// The host's list has no such script.
    pub is_unlisted: bool,
    pub has_secret: bool,
    /// Its end is asked for once so many more have been submitted.
    pub cancel_after: Option<usize>,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub submissions: Vec<Submission>,
    /// In the order of their moments.
    pub strikes: Vec<Strike>,
}

/// Long enough for anything that is not to run out of time.
pub const AMPLE_MS: u64 = 3_600_000;

impl Plan {
    /// The plan of this seed.
    pub fn of(seed: u64, shape: &Shape) -> Self {
        let mut dice = Dice::new(seed);
        let submissions: Vec<_> =
            (0..shape.submissions).map(|_| submission(&mut dice, shape)).collect();
        let executions: usize = submissions.iter().map(|it| it.executions(shape.hosts)).sum();
        // Some executions never begin: the last blows should not wait for those.
        let begin = (executions * 7 / 10).max(1) as u64;
        let count = if shape.blows.is_empty() { 0 } else { shape.strikes };
        let mut strikes: Vec<_> =
            (0..count).map(|number| strike(&mut dice, shape, number, begin)).collect();
        strikes.sort_by_key(|strike| strike.begun);
        // Some come right behind another, while what that one hit has not come back.
        for next in 1..strikes.len() {
            if dice.is_in(30) {
                strikes[next].begun = strikes[next - 1].begun;
                strikes[next].after_ms = dice.below(15);
            }
        }
        Self { submissions, strikes }
    }
}

impl Submission {
    /// How many executions it makes in a fleet of so many hosts.
    pub fn executions(&self, hosts: usize) -> usize {
        match &self.place {
            Place::Host(_) => 1,
            Place::Hosts(chosen) => chosen.len(),
            Place::All => hosts,
        }
    }
}

fn submission(dice: &mut Dice, shape: &Shape) -> Submission {
    let place = match dice.below(10) {
        0 => Place::All,
        1 => {
            let chosen: Vec<_> = (0..shape.hosts).filter(|_| dice.is_in(60)).collect();
            if chosen.is_empty() { Place::Hosts(vec![0]) } else { Place::Hosts(chosen) }
        }
        _ => Place::Host(dice.below(shape.hosts as u64) as usize),
    };
    let code = dice.within(1..120) as u8;
    let end = dice.choose(&[(End::Succeeds, 80), (End::Fails(code), 8), (End::RunsOutOfTime, 6)]);
    let stays = dice.within(shape.stay_ms.clone());
    let (stay_ms, timeout_ms) = match end {
        End::RunsOutOfTime => (AMPLE_MS, dice.within(200..1_500)),
        End::Succeeds | End::Fails(_) => (stays, AMPLE_MS),
    };
    Submission {
        place,
        print: dice.choose(&[
            (Print::Nothing, 20),
            (Print::Line, 50),
            (Print::Both, 25),
            (Print::Mebibyte, 5),
        ]),
        end,
        stay_ms,
        timeout_ms,
        expires_in_ms: if dice.is_in(6) { dice.within(1..200) } else { AMPLE_MS },
        is_unlisted: dice.is_in(2),
        has_secret: dice.is_in(15),
        cancel_after: dice.is_in(8).then(|| dice.below(8) as usize),
    }
}

fn strike(dice: &mut Dice, shape: &Shape, number: usize, begin: u64) -> Strike {
    // Each kind once, then as the dice fall.
    let first = shape.blows.get(number).map(|(kind, _)| *kind);
    Strike {
        begun: 1 + dice.below(begin) as usize,
        after_ms: dice.below(120),
        kind: first.unwrap_or_else(|| dice.choose(&shape.blows)),
        host: dice.below(shape.hosts as u64) as usize,
        number: dice.roll(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            hosts: 3,
            submissions: 400,
            strikes: 60,
            blows: Kind::ALL.into(),
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
        for (kind, _) in Kind::ALL {
            assert!(plan.strikes.iter().any(|strike| strike.kind == kind), "{kind:?}");
        }
        assert!(plan.strikes.is_sorted_by_key(|strike| strike.begun));
    }
}
