//! When each packet of one direction arrives, if it does. Pure, apart from its random numbers.

use std::time::{Duration, Instant};

/// One direction of a network.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// `None`: unlimited.
    pub bits_per_second: Option<u64>,
    /// Bytes that wait for their turn; more are dropped.
    pub queue_bytes: u64,
    pub delay: Duration,
    /// Packets of a million that are lost.
    pub lost_per_million: u32,
    /// Packets of a million that arrive late, behind others.
    pub reordered_per_million: u32,
    /// No packet arrives, and the sender does not learn of it.
    pub is_blackhole: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            bits_per_second: None,
            queue_bytes: 64 * 1024,
            delay: Duration::ZERO,
            lost_per_million: 0,
            reordered_per_million: 0,
            is_blackhole: false,
        }
    }
}

impl Conditions {
    /// A link of this rate, with a short delay.
    pub fn kbit(rate: u64) -> Self {
        let delay = Duration::from_millis(25);
        Self { bits_per_second: Some(rate * 1_000), delay, ..Self::default() }
    }
}

/// The state of one direction.
#[derive(Debug)]
pub struct Shaper {
    pub conditions: Conditions,
    /// When the last packet has left the sender's side.
    free_at: Option<Instant>,
    random: u64,
}

impl Shaper {
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self { conditions, free_at: None, random: seed | 1 }
    }

    /// When a packet of this size arrives that is sent now; `None` if it is lost.
    pub fn arrival(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let Conditions { bits_per_second, queue_bytes, delay, .. } = self.conditions;
        if self.conditions.is_blackhole || self.happens(self.conditions.lost_per_million) {
            return None;
        }
        let mut left_at = now;
        if let Some(rate) = bits_per_second {
            let start = self.free_at.map_or(now, |free_at| free_at.max(now));
            let waiting = (start - now).as_secs_f64() * rate as f64 / 8.0;
            if waiting as u64 + bytes as u64 > queue_bytes {
                return None;
            }
            left_at = start + Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
            self.free_at = Some(left_at);
        }
        let late = self.happens(self.conditions.reordered_per_million);
        let extra = if late { delay / 2 + Duration::from_millis(20) } else { Duration::ZERO };
        Some(left_at + delay + extra)
    }

    fn happens(&mut self, per_million: u32) -> bool {
        // Xorshift: any sequence without a pattern will do.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1_000_000 < u64::from(per_million)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_leave_one_after_the_other_at_the_rate_and_arrive_after_the_delay() {
        let mut shaper = Shaper::new(Conditions::kbit(8), 1);
        let now = Instant::now();
        let millis = |bytes, shaper: &mut Shaper| {
            shaper.arrival(bytes, now).map(|at| (at - now).as_millis())
        };
        assert_eq!(millis(1_000, &mut shaper), Some(1_025));
        assert_eq!(millis(500, &mut shaper), Some(1_525));
        let later = now + Duration::from_secs(10);
        let at = shaper.arrival(100, later).expect("the queue is empty again");
        assert_eq!((at - later).as_millis(), 125);
    }

    #[test]
    fn packets_that_find_the_queue_full_are_lost() {
        let conditions = Conditions { queue_bytes: 3_000, ..Conditions::kbit(8) };
        let mut shaper = Shaper::new(conditions, 1);
        let now = Instant::now();
        let passed = (0..10).filter(|_| shaper.arrival(1_000, now).is_some()).count();
        assert_eq!(passed, 3);
        assert!(shaper.arrival(1_000, now + Duration::from_secs(2)).is_some());
    }

    #[test]
    fn losses_and_late_packets_are_about_as_many_as_asked_for() {
        let conditions = Conditions {
            lost_per_million: 100_000,
            reordered_per_million: 200_000,
            delay: Duration::from_millis(10),
            ..Conditions::default()
        };
        let mut shaper = Shaper::new(conditions, 7);
        let now = Instant::now();
        let arrivals: Vec<_> = (0..10_000).filter_map(|_| shaper.arrival(100, now)).collect();
        assert!((8_500..9_500).contains(&arrivals.len()), "{}", arrivals.len());
        let late = arrivals.iter().filter(|at| **at - now > conditions.delay).count();
        assert!((1_400..2_200).contains(&late), "{late}");
        shaper.conditions.is_blackhole = true;
        assert_eq!(shaper.arrival(100, now), None);
    }
}
