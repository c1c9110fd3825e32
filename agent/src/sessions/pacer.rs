//! Decides how much output may be on its way, from measured round trips: about as much as the link
//! carries in a second. What is on its way delays everything that follows, such as heartbeats and the
//! answer to a ping.

use std::collections::VecDeque;
use std::time::Duration;

use muster_protocol::limits::{MAX_OUTPUT_FRAME_BYTES, OUTPUT_WINDOW_BYTES};
use tokio::time::Instant;
use uuid::Uuid;

use crate::link::OutputShape;

/// A pause after which the link may have changed: the measurement starts again.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// Frames that a window consists of at least, so that the link is not idle between them.
const MIN_FRAMES: u64 = 2;
/// The part of the window that one frame takes, if frames may be that small.
const WINDOW_PER_FRAME: u64 = 3;
/// How much faster the window may grow than the last measurement of it.
const GROWTH_FACTOR: u64 = 16;

/// The pacer of one session.
#[derive(Debug)]
pub struct Pacer {
    min_frame_bytes: u64,
    max_frame_bytes: u64,
    /// How long output may be on its way.
    target_delay: Duration,
    window_bytes: u64,
    in_flight_bytes: u64,
    shortest_round_trip: Option<Duration>,
    used_at: Instant,
    /// Frames without an acknowledgement, in the order of their sending.
    sent: VecDeque<SentFrame>,
}

#[derive(Debug)]
struct SentFrame {
    command_id: Uuid,
    end_bytes: u64,
    payload_bytes: u64,
    sent_at: Instant,
    /// On its way when it was sent, itself included.
    in_flight_bytes: u64,
    /// The window was full, so the round trip shows what the link carries.
    is_measure: bool,
}

impl Pacer {
    /// A pacer for a link that wants its output like this.
    pub fn new(shape: OutputShape) -> Self {
        let max_frame_bytes = shape.max_frame_bytes.min(MAX_OUTPUT_FRAME_BYTES) as u64;
        let min_frame_bytes = (shape.min_frame_bytes as u64).min(max_frame_bytes);
        Self {
            min_frame_bytes,
            max_frame_bytes,
            target_delay: shape.delay,
            window_bytes: MIN_FRAMES * min_frame_bytes,
            in_flight_bytes: 0,
            shortest_round_trip: None,
            used_at: Instant::now(),
            sent: VecDeque::new(),
        }
    }

    /// Payload that the next frame may contain; zero while the window is full.
    pub fn allowance(&mut self, now: Instant) -> u64 {
        if self.in_flight_bytes == 0 && now.saturating_duration_since(self.used_at) >= FORGET_AFTER
        {
            self.window_bytes = self.min_window();
        }
        if self.in_flight_bytes >= self.window_bytes {
            return 0;
        }
        // The last frame may exceed the window: a smaller one would cost more than it saves.
        let frame_bytes = self.window_bytes / WINDOW_PER_FRAME;
        frame_bytes.clamp(self.min_frame_bytes, self.max_frame_bytes)
    }

    /// A frame was sent whose payload ends at this offset.
    pub fn sent(&mut self, command_id: Uuid, end_bytes: u64, payload_bytes: u64, now: Instant) {
        self.used_at = now;
        self.in_flight_bytes += payload_bytes;
        let is_measure = self.in_flight_bytes >= self.window_bytes;
        let sent_at = now;
        let in_flight_bytes = self.in_flight_bytes;
        self.sent.push_back(SentFrame {
            command_id,
            end_bytes,
            payload_bytes,
            sent_at,
            in_flight_bytes,
            is_measure,
        });
    }

    /// The server has committed output of a command up to this offset, and therefore has everything
    /// that was sent before it.
    pub fn acknowledged(&mut self, command_id: Uuid, offset_bytes: u64, now: Instant) {
        let is_covered =
            |frame: &SentFrame| frame.command_id == command_id && frame.end_bytes <= offset_bytes;
        let Some(last) = self.sent.iter().rposition(is_covered) else { return };
        self.used_at = now;
        let mut newest = None;
        for frame in self.sent.drain(..=last) {
            self.in_flight_bytes -= frame.payload_bytes;
            newest = Some(frame);
        }
        if let Some(frame) = newest {
            self.measure(&frame, now);
        }
    }

    /// No output of this command is acknowledged any more.
    pub fn forget(&mut self, command_id: Uuid) {
        let in_flight_bytes = &mut self.in_flight_bytes;
        self.sent.retain(|frame| {
            let is_kept = frame.command_id != command_id;
            if !is_kept {
                *in_flight_bytes -= frame.payload_bytes;
            }
            is_kept
        });
    }

    fn measure(&mut self, frame: &SentFrame, now: Instant) {
        let round_trip = now.saturating_duration_since(frame.sent_at).max(Duration::from_micros(1));
        let is_floor = self.window_bytes <= self.min_window();
        let shortest = match self.shortest_round_trip {
            // With the smallest window, the delay is the network's own.
            _ if is_floor => round_trip,
            Some(shortest) => shortest.min(round_trip),
            None => round_trip,
        };
        self.shortest_round_trip = Some(shortest);
        let target = self.target_delay.max(shortest.mul_f64(1.25));
        // What was on its way needed one round trip.
        let per_target =
            frame.in_flight_bytes as f64 * target.as_secs_f64() / round_trip.as_secs_f64();
        let measured = per_target.min(OUTPUT_WINDOW_BYTES as f64) as u64;
        // Little output says that the link carries at least so much, not that it carries no more.
        if measured > self.window_bytes {
            self.window_bytes = measured.min(self.window_bytes * GROWTH_FACTOR);
        } else if frame.is_measure {
            self.window_bytes = (self.window_bytes + measured) / 2;
        }
        self.window_bytes = self.window_bytes.clamp(self.min_window(), OUTPUT_WINDOW_BYTES);
    }

    fn min_window(&self) -> u64 {
        MIN_FRAMES * self.min_frame_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that carries so many bytes a second in one direction, one frame after the other, with
    /// a delay of its own. Its time is simulated.
    struct SimulatedLink {
        bytes_per_second: f64,
        delay: Duration,
        now: Instant,
        free_at: Instant,
        arriving: VecDeque<(Instant, u64)>,
        end_bytes: u64,
    }

    impl SimulatedLink {
        fn new(kbit_per_second: f64, delay: Duration) -> Self {
            let (now, arriving) = (Instant::now(), VecDeque::new());
            let bytes_per_second = kbit_per_second * 125.0;
            Self { bytes_per_second, delay, now, free_at: now, arriving, end_bytes: 0 }
        }

        fn set_rate(&mut self, kbit_per_second: f64) {
            self.bytes_per_second = kbit_per_second * 125.0;
        }

        /// Sends output for a while; returns its bytes per second, and the longest that a frame
        /// waited for the link during the second half.
        fn run(&mut self, pacer: &mut Pacer, time: Duration) -> (f64, Duration) {
            let (start, first_bytes) = (self.now, self.end_bytes);
            let mut longest = Duration::ZERO;
            while self.now - start < time {
                loop {
                    let payload = pacer.allowance(self.now);
                    if payload == 0 {
                        break;
                    }
                    self.end_bytes += payload;
                    pacer.sent(ID, self.end_bytes, payload, self.now);
                    let time_on_link = (payload + 80) as f64 / self.bytes_per_second;
                    self.free_at =
                        self.free_at.max(self.now) + Duration::from_secs_f64(time_on_link);
                    self.arriving.push_back((self.free_at + self.delay, self.end_bytes));
                    if self.now - start > time / 2 {
                        longest = longest.max(self.free_at - self.now);
                    }
                }
                let (at, offset) = self.arriving.pop_front().expect("something is on its way");
                self.now = at;
                pacer.acknowledged(ID, offset, at);
            }
            let bytes = self.end_bytes - first_bytes;
            (bytes as f64 / (self.now - start).as_secs_f64(), longest)
        }
    }

    const ID: Uuid = Uuid::from_u128(1);

    fn pacer() -> Pacer {
        Pacer::new(OutputShape::default())
    }

    #[test]
    fn slow_links_are_full_and_delay_little() {
        for (kbit, most) in [(16.0, 2.6), (64.0, 1.8), (256.0, 1.8), (1_000.0, 1.8)] {
            for delay_ms in [20, 100, 600] {
                let mut link = SimulatedLink::new(kbit, Duration::from_millis(delay_ms));
                let (rate, longest) = link.run(&mut pacer(), Duration::from_secs(120));
                let context = format!("{kbit} kbit/s, {delay_ms} ms: {rate} B/s, {longest:?}");
                assert!(rate > kbit * 125.0 * 0.88, "{context}");
                assert!(longest.as_secs_f64() < most, "{context}");
            }
        }
    }

    #[test]
    fn fast_link_reaches_the_full_window_within_a_second() {
        let mut pacer = pacer();
        let mut link = SimulatedLink::new(4e6, Duration::from_millis(10));
        link.run(&mut pacer, Duration::from_secs(1));
        assert_eq!(pacer.window_bytes, OUTPUT_WINDOW_BYTES);
        pacer.forget(ID);
        assert_eq!(pacer.allowance(link.now), MAX_OUTPUT_FRAME_BYTES as u64);
    }

    #[test]
    fn link_that_becomes_slow_is_measured_again_at_once_or_after_a_pause() {
        let mut pacer = pacer();
        let mut link = SimulatedLink::new(4e6, Duration::from_millis(10));
        link.run(&mut pacer, Duration::from_secs(1));
        link.set_rate(800.0);
        let (_, longest) = link.run(&mut pacer, Duration::from_secs(600));
        assert!(longest < Duration::from_secs(2), "{longest:?}");
        pacer.forget(ID);
        assert_eq!(pacer.in_flight_bytes, 0);
        assert!(pacer.allowance(link.now + FORGET_AFTER) <= pacer.min_window());
    }

    #[test]
    fn output_that_is_never_acknowledged_by_itself_leaves_with_what_followed_it() {
        let (mut pacer, now) = (pacer(), Instant::now());
        pacer.sent(Uuid::from_u128(1), 1000, 1000, now);
        pacer.sent(Uuid::from_u128(2), 500, 500, now);
        pacer.sent(Uuid::from_u128(1), 1200, 200, now);
        pacer.acknowledged(Uuid::from_u128(2), 400, now);
        assert_eq!(pacer.in_flight_bytes, 1700);
        pacer.acknowledged(Uuid::from_u128(2), 500, now);
        assert_eq!(pacer.in_flight_bytes, 200);
    }
}
