//! Decides which principals count as the same person, so that people can't approve their own requests. Pure.
//!
//! A key belongs to the person who created it and to each person who rotated it, because they know or knew
//! its secret. All keys of one creator belong to one person: otherwise a person with two keys would count as
//! two people. A member stays the same person when its role changes.
//!
//! The operator of the server has the first key, which no principal created, and makes the first owner: the
//! files for both are in the same directory. So such keys and such owners count as one person.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::PrincipalId;

/// Who knows the secret of what: a key and its makers, a member and its user.
#[derive(Debug, Clone, Default)]
pub struct Ownership {
    owners: BTreeMap<PrincipalId, BTreeSet<PrincipalId>>,
    of_server: BTreeMap<PrincipalId, ServerAccess>,
}

/// What the operator of the server created for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAccess {
    /// A key that no principal created.
    Key,
    /// A person who was made an owner with the set-up token or at the terminal.
    Member,
}

impl Ownership {
    /// `owned` acts for `owner`.
    pub fn add(&mut self, owned: PrincipalId, owner: PrincipalId) {
        self.owners.entry(owned).or_default().insert(owner);
    }

    /// The operator of the server created this key or made this person an owner.
    pub fn add_of_server(&mut self, id: PrincipalId, access: ServerAccess) {
        self.of_server.insert(id, access);
    }

    /// True if one person is, or may be, behind both.
    pub fn is_same_person(&self, one: PrincipalId, other: PrincipalId) -> bool {
        let (one, other) = (self.people(one), self.people(other));
        let has = |people: &BTreeSet<PrincipalId>, access: ServerAccess| {
            people.iter().any(|id| self.of_server.get(id) == Some(&access))
        };
        let (key, member) = (ServerAccess::Key, ServerAccess::Member);
        !one.is_disjoint(&other)
            || (has(&one, key) && has(&other, member))
            || (has(&one, member) && has(&other, key))
    }

    /// A principal, and everybody for whom it acts, directly or through others.
    fn people(&self, id: PrincipalId) -> BTreeSet<PrincipalId> {
        let mut people = BTreeSet::new();
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            if people.insert(id) {
                left.extend(self.owners.get(&id).into_iter().flatten());
            }
        }
        people
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_one_maker_are_one_person_and_those_of_two_are_not() {
        let [ada, grace, key, child, sibling, other] = [(); 6].map(|()| PrincipalId::new());
        let mut ownership = Ownership::default();
        for (owned, owner) in [(key, ada), (child, key), (sibling, ada), (other, grace)] {
            ownership.add(owned, owner);
        }
        for one in [ada, key, child, sibling] {
            for same in [ada, key, child, sibling] {
                assert!(ownership.is_same_person(one, same));
            }
            for different in [grace, other] {
                assert!(!ownership.is_same_person(one, different));
                assert!(!ownership.is_same_person(different, one));
            }
        }
        // A person who rotated or created a key knows its secret.
        ownership.add(other, ada);
        assert!(ownership.is_same_person(other, child));
        assert!(ownership.is_same_person(other, grace));
        assert!(!ownership.is_same_person(ada, grace));
    }

    #[test]
    fn a_key_without_a_creator_and_an_owner_from_set_up_are_one_person() {
        let [first, child, ada, of_ada, grace, of_grace] = [(); 6].map(|()| PrincipalId::new());
        let mut ownership = Ownership::default();
        for (owned, owner) in [(child, first), (of_ada, ada), (of_grace, grace)] {
            ownership.add(owned, owner);
        }
        ownership.add_of_server(first, ServerAccess::Key);
        ownership.add_of_server(ada, ServerAccess::Member);
        for key in [first, child] {
            for same in [ada, of_ada] {
                assert!(ownership.is_same_person(key, same));
                assert!(ownership.is_same_person(same, key));
            }
            assert!(!ownership.is_same_person(key, of_grace));
        }
        // Two owners who were both made at the terminal are two people.
        ownership.add_of_server(grace, ServerAccess::Member);
        assert!(!ownership.is_same_person(of_ada, of_grace));
    }

    #[test]
    fn a_key_that_rotated_itself_or_its_maker_has_a_person_behind_it() {
        let [ada, key, child] = [(); 3].map(|()| PrincipalId::new());
        let mut ownership = Ownership::default();
        for (owned, owner) in [(key, ada), (child, key), (key, child), (key, key)] {
            ownership.add(owned, owner);
        }
        assert!(ownership.is_same_person(child, ada));
        // The first key of a server has no maker, and may have rotated itself.
        let (first, made) = (PrincipalId::new(), PrincipalId::new());
        ownership.add(made, first);
        assert!(ownership.is_same_person(made, first));
        ownership.add(first, first);
        assert!(ownership.is_same_person(made, first) && ownership.is_same_person(first, first));
    }
}
