//! Model checking of one command's life: a server, an agent, a shim and the frames between them,
//! with killed parts and lost, duplicated and reordered frames.
//!
//! Visits every state that is reachable with a few faults. The rules are the real ones
//! (`domain::state::step`, `ledger::recovery::decide`, `frame::compare_ledger`); the model only
//! defines who sends what to whom.

mod host;
mod invariants;
mod server;
mod world;

use std::collections::{HashMap, VecDeque};

use self::world::{Faults, Move, Network, World};

/// All states, with the move that first led to each.
struct Search {
    states: Vec<(World, Option<(usize, Move)>)>,
    known: HashMap<World, usize>,
}

impl Search {
    /// Visits every state; fails with the moves that led to a violated invariant.
    fn all_of(start: World) -> Self {
        let mut search = Self { states: vec![(start.clone(), None)], known: HashMap::new() };
        search.known.insert(start, 0);
        let mut ahead = VecDeque::from([0]);
        while let Some(index) = ahead.pop_front() {
            let before = search.states[index].0.clone();
            for (made, after) in before.moves() {
                let broken =
                    invariants::of_step(&before, &after).or_else(|| invariants::of(&after));
                if let Some(broken) = broken {
                    panic!("{broken}\n{}{made:?}\n{after:#?}", search.path_to(index));
                }
                if !search.known.contains_key(&after) {
                    let next = search.states.len();
                    search.known.insert(after.clone(), next);
                    search.states.push((after, Some((index, made))));
                    ahead.push_back(next);
                }
            }
        }
        search
    }

    fn path_to(&self, mut index: usize) -> String {
        let mut way = Vec::new();
        while let Some((before, made)) = &self.states[index].1 {
            way.push(format!("{made:?}\n"));
            index = *before;
        }
        way.into_iter().rev().collect()
    }

    /// From every state: without further faults the command ends, and both sides agree.
    fn check_every_state_terminates(&self) {
        for (index, (world, _)) in self.states.iter().enumerate() {
            let end = world.without_faults();
            if let Some(broken) = invariants::of_the_end(&end) {
                panic!("{broken}\n{}then without faults\n{end:#?}", self.path_to(index));
            }
        }
    }
}

fn visit(network: Network, faults: Faults, at_least: usize) {
    let search = Search::all_of(World::new(network, faults));
    let count = search.states.len();
    println!("{count} states");
    assert!(count > at_least, "only {count} states: the model is broken");
    search.check_every_state_terminates();
}

#[test]
fn invariants_hold_if_any_part_is_killed_and_any_link_is_cut() {
    visit(Network::Links, Faults { left: 2, may_lose_ledger: false }, 10_000);
}

#[test]
fn invariants_hold_if_the_host_loses_its_ledger() {
    visit(Network::Links, Faults { left: 2, may_lose_ledger: true }, 5_000);
}

#[test]
fn invariants_hold_if_frames_are_lost_duplicated_and_reordered() {
    visit(Network::Anything, Faults { left: 1, may_lose_ledger: false }, 10_000);
}
