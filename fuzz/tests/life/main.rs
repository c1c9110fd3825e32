//! One command's whole life, every way it can go: a server, an agent, a shim and what travels between
//! them, with parts that are killed and frames that are lost, doubled and out of order.
//!
//! Every state that can be reached with a few faults is visited. The rules are the real ones
//! (`domain::state::step`, `ledger::recovery::judge`, `frame::compare_ledger`); what stands here
//! is who says what to whom.

mod host;
mod promises;
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
    /// Visits every state; fails with the way that led to one that breaks a promise.
    fn all_of(start: World) -> Self {
        let mut search = Self { states: vec![(start.clone(), None)], known: HashMap::new() };
        search.known.insert(start, 0);
        let mut ahead = VecDeque::from([0]);
        while let Some(index) = ahead.pop_front() {
            let before = search.states[index].0.clone();
            for (made, after) in before.moves() {
                let broken = promises::of_step(&before, &after).or_else(|| promises::of(&after));
                if let Some(broken) = broken {
                    panic!("{broken}\n{}{made:?}\n{after:#?}", search.way_to(index));
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

    fn way_to(&self, mut index: usize) -> String {
        let mut way = Vec::new();
        while let Some((before, made)) = &self.states[index].1 {
            way.push(format!("{made:?}\n"));
            index = *before;
        }
        way.into_iter().rev().collect()
    }

    /// From every state: when nothing goes wrong any more, the command ends, and both ends agree.
    fn all_come_to_an_end(&self) {
        for (index, (world, _)) in self.states.iter().enumerate() {
            let end = world.in_peace();
            if let Some(broken) = promises::of_the_end(&end) {
                panic!("{broken}\n{}then in peace\n{end:#?}", self.way_to(index));
            }
        }
    }
}

fn visit(network: Network, faults: Faults, at_least: usize) {
    let search = Search::all_of(World::new(network, faults));
    let count = search.states.len();
    println!("{count} states");
    assert!(count > at_least, "only {count} states: the model has come apart");
    search.all_come_to_an_end();
}

#[test]
fn a_command_keeps_its_promises_whichever_part_is_killed_and_whichever_link_is_cut() {
    visit(Network::Links, Faults { left: 2, may_lose_ledger: false }, 10_000);
}

#[test]
fn a_command_keeps_its_promises_though_the_host_loses_what_it_knew() {
    visit(Network::Links, Faults { left: 2, may_lose_ledger: true }, 5_000);
}

#[test]
fn a_command_keeps_its_promises_though_frames_are_lost_and_doubled_and_overtake_each_other() {
    visit(Network::Anything, Faults { left: 1, may_lose_ledger: false }, 10_000);
}
