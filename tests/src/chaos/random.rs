//! Random numbers that are the same for the same seed in every version of every library, so that a
//! failure can be replayed. (SplitMix64, by Steele, Lea and Flood.)

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, any of 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// A number from a range that is not empty.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// True in this many of a hundred cases.
    pub fn is_in(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several choices, by weight.
    ///
    /// # Panics
    /// If there are no choices.
    pub fn choose<T: Copy>(&mut self, choices: &[(T, u64)]) -> T {
        let mut left = self.below(choices.iter().map(|(_, weight)| weight).sum());
        for (choice, weight) in choices {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return *choice,
            }
        }
        unreachable!("below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_numbers() {
        let mut random = Random::new(1_234_567);
        // From the reference implementation.
        assert_eq!(random.roll(), 6_457_827_717_110_365_317);
        assert_eq!(random.roll(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn what_weighs_nothing_is_never_chosen() {
        let mut random = Random::new(7);
        for _ in 0..200 {
            assert_ne!(random.choose(&[('a', 1), ('b', 0), ('c', 5)]), 'b');
        }
    }
}
