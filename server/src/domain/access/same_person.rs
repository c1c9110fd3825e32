//! Who counts as the same person, so that nobody approves their own request. Pure.
//!
//! A key belongs to whoever created it, and to whoever rotated it, because both know its secret. Keys of one
//! maker belong to one person: otherwise anybody who creates keys would be two people. A member is the
//! person behind it, also after its role was changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::ids::PrincipalId;

/// Who knows the secret of what: a key and its makers, a member and its user.
#[derive(Debug, Clone, Default)]
pub struct Ownership(BTreeMap<PrincipalId, BTreeSet<PrincipalId>>);

impl Ownership {
    /// `owned` acts for `owner`.
    pub fn add(&mut self, owned: PrincipalId, owner: PrincipalId) {
        self.0.entry(owned).or_default().insert(owner);
    }

    /// True if somebody is behind both.
    pub fn is_same_person(&self, one: PrincipalId, other: PrincipalId) -> bool {
        !self.people(one).is_disjoint(&self.people(other))
    }

    /// A principal, and everybody for whom it acts, directly or through others.
    fn people(&self, id: PrincipalId) -> BTreeSet<PrincipalId> {
        let mut people = BTreeSet::new();
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            if people.insert(id) {
                left.extend(self.0.get(&id).into_iter().flatten());
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
        // Whoever rotated a key knows its secret, and so does who created it.
        ownership.add(other, ada);
        assert!(ownership.is_same_person(other, child));
        assert!(ownership.is_same_person(other, grace));
        assert!(!ownership.is_same_person(ada, grace));
    }

    #[test]
    fn a_key_that_rotated_itself_or_its_maker_has_somebody_behind_it() {
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
