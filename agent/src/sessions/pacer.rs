//! Decides how much output may be on its way, from measured round trips: about as much as the link
//! carries in a second. What is on its way delays everything that follows, such as heartbeats and the
//! answer to a ping.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use muster_protocol::limits::{MAX_OUTPUT_FRAME_BYTES, OUTPUT_WINDOW_BYTES};
use tokio::time::Instant;
use uuid::Uuid;

use crate::link::OutputShape;

/// A pause after which the link may have changed: the measurement starts again.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// A full window is stalled if nothing is acknowledged in so many times the target delay.
const STALL_FACTOR: u32 = 3;
/// How much faster the window may grow than the last measurement of it.
const GROWTH_FACTOR: u64 = 16;

/// The pacer of one session.
#[derive(Debug)]
pub struct Pacer {
    min_frame_bytes: u64,
    max_frame_bytes: u64,
    /// How long output may be on its way.
    target_delay: Duration,
    min_frames: u64,
    frames_per_window: u64,
    window_bytes: u64,
    in_flight_bytes: u64,
    shortest_round_trip: Option<Duration>,
    /// When output was last sent or acknowledged.
    used_at: Instant,
    acked_at: Option<Instant>,
    /// Frames without an acknowledgement, in the order of their sending.
    sent: VecDeque<SentFrame>,
}

#[derive(Debug)]
struct SentFrame {
    command_id: Uuid,
    end_bytes: u64,
    payload_bytes: u64,
    sent_at: Instant,
    /// When the oldest frame was sent that was on its way then.
    oldest_sent_at: Instant,
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
            min_frames: shape.min_frames,
            frames_per_window: shape.frames_per_window,
            window_bytes: shape.min_frames * min_frame_bytes,
            in_flight_bytes: 0,
            shortest_round_trip: None,
            used_at: Instant::now(),
            acked_at: None,
            sent: VecDeque::new(),
        }
    }

    /// Payload that the next frame of this command may contain; zero while the window is full.
    pub fn allowance(&mut self, command_id: Uuid, now: Instant) -> u64 {
        if self.in_flight_bytes == 0 && now.saturating_duration_since(self.used_at) >= FORGET_AFTER
        {
            self.window_bytes = self.min_window();
        }
        if self.is_full() {
            // If the server does not store what fills the window, it still acknowledges others.
            let is_other = || self.sent.iter().all(|frame| frame.command_id != command_id);
            let may_exceed = now >= self.stalled_at() && is_other();
            return if may_exceed { self.min_frame_bytes } else { 0 };
        }
        self.frame_bytes()
    }

    fn frame_bytes(&self) -> u64 {
        let frame_bytes = self.window_bytes / self.frames_per_window;
        frame_bytes.clamp(self.min_frame_bytes, self.max_frame_bytes)
    }

    /// True if the next frame would exceed the window by more than half of it. By less it may: a
    /// smaller frame would cost more than it saves.
    fn is_full(&self) -> bool {
        self.in_flight_bytes > 0
            && self.in_flight_bytes + self.frame_bytes() / 2 >= self.window_bytes
    }

    /// How much output may travel as one piece.
    pub fn batch_bytes(&self) -> usize {
        let bytes = (self.window_bytes / self.frames_per_window).max(self.min_frame_bytes);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// True if no output is on its way.
    pub fn is_idle(&self) -> bool {
        self.in_flight_bytes == 0
    }

    /// When a full window counts as stalled.
    pub fn stalled_at(&self) -> Instant {
        self.used_at + self.stall_time()
    }

    /// How long a full window may be without an acknowledgement.
    pub fn stall_time(&self) -> Duration {
        let round_trip = self.shortest_round_trip.unwrap_or_default();
        self.target_delay.max(round_trip) * STALL_FACTOR
    }

    /// A frame without output was answered after this time, while no output was on its way. The
    /// first frames of output take longer on a slow link, so this is closer to the network's own
    /// delay.
    pub fn note_round_trip(&mut self, round_trip: Duration) {
        let shortest = self.shortest_round_trip.map_or(round_trip, |known| known.min(round_trip));
        self.shortest_round_trip = Some(shortest);
    }

    /// A frame was sent whose payload ends at this offset.
    pub fn sent(&mut self, command_id: Uuid, end_bytes: u64, payload_bytes: u64, now: Instant) {
        self.used_at = now;
        self.in_flight_bytes += payload_bytes;
        let is_measure = self.is_full();
        let sent_at = now;
        let oldest_sent_at = self.sent.front().map_or(now, |frame| frame.sent_at);
        let in_flight_bytes = self.in_flight_bytes;
        self.sent.push_back(SentFrame {
            command_id,
            end_bytes,
            payload_bytes,
            sent_at,
            oldest_sent_at,
            in_flight_bytes,
            is_measure,
        });
    }

    /// The server has committed output of a command up to this offset, and therefore has received
    /// everything that was sent before it. Returns the commands whose earlier output it has not
    /// acknowledged.
    pub fn acknowledged(
        &mut self,
        command_id: Uuid,
        offset_bytes: u64,
        now: Instant,
    ) -> BTreeSet<Uuid> {
        let is_covered =
            |frame: &SentFrame| frame.command_id == command_id && frame.end_bytes <= offset_bytes;
        let mut overtaken = BTreeSet::new();
        let Some(last) = self.sent.iter().rposition(is_covered) else { return overtaken };
        self.used_at = now;
        let mut newest = None;
        for frame in self.sent.drain(..=last) {
            self.in_flight_bytes -= frame.payload_bytes;
            if frame.command_id != command_id {
                overtaken.insert(frame.command_id);
            }
            newest = Some(frame);
        }
        if let Some(frame) = newest {
            self.measure(&frame, now);
        }
        self.acked_at = Some(now);
        overtaken
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
        // Frames that were on their way together arrive one after the other on a slow link.
        let is_at_once = self.acked_at.is_some_and(|before| {
            before > frame.sent_at && now.saturating_duration_since(before) < round_trip / 4
        });
        let shortest = match self.shortest_round_trip {
            // With the smallest window and a fast link, the delay is the network's own.
            _ if is_floor && is_at_once => round_trip,
            Some(shortest) => shortest.min(round_trip),
            None => round_trip,
        };
        self.shortest_round_trip = Some(shortest);
        let target = self.target_delay.max(shortest.mul_f64(1.25));
        // What was on its way needed one round trip, or longer if the server had some of it already
        // and its acknowledgements arrived together.
        let time = round_trip.max(frame.sent_at.saturating_duration_since(frame.oldest_sent_at));
        let per_target = frame.in_flight_bytes as f64 * target.as_secs_f64() / time.as_secs_f64();
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
        self.min_frames * self.min_frame_bytes
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
                    let payload = pacer.allowance(ID, self.now);
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
        assert_eq!(pacer.allowance(ID, link.now), MAX_OUTPUT_FRAME_BYTES as u64);
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
        assert!(pacer.allowance(ID, link.now + FORGET_AFTER) <= pacer.min_window());
    }

    #[test]
    fn requests_over_a_slow_link_are_large_enough_and_delay_little() {
        let shape = OutputShape {
            min_frame_bytes: 4_000,
            delay: Duration::from_millis(1_500),
            min_frames: 1,
            frames_per_window: 2,
            ..OutputShape::default()
        };
        for (kbit, most) in [(16.0, 2.5), (64.0, 2.0), (256.0, 2.0), (1_000.0, 2.0)] {
            let mut pacer = Pacer::new(shape);
            pacer.note_round_trip(Duration::from_millis(300));
            let mut link = SimulatedLink::new(kbit, Duration::from_millis(100));
            let (rate, longest) = link.run(&mut pacer, Duration::from_secs(120));
            let context = format!("{kbit} kbit/s: {rate} B/s, {longest:?}");
            assert!(rate > kbit * 125.0 * 0.9, "{context}");
            assert!(longest.as_secs_f64() < most, "{context}");
        }
    }

    #[test]
    fn acknowledgements_that_arrive_together_do_not_make_a_slow_link_look_fast() {
        let (mut pacer, start) = (pacer(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        pacer.sent(ID, 1_000, 1_000, at(0));
        pacer.sent(ID, 3_000, 2_000, at(0));
        pacer.acknowledged(ID, 1_000, at(2_000));
        let window_bytes = pacer.window_bytes;
        // The server had the second frame already when this one was sent.
        pacer.sent(ID, 4_000, 1_000, at(2_000));
        pacer.acknowledged(ID, 4_000, at(2_100));
        assert!(pacer.window_bytes <= window_bytes, "{} bytes", pacer.window_bytes);
    }

    #[test]
    fn window_that_one_command_fills_in_vain_lets_another_pass_after_a_while() {
        let (mut pacer, now, other) = (pacer(), Instant::now(), Uuid::from_u128(2));
        while let bytes @ 1.. = pacer.allowance(ID, now) {
            pacer.sent(ID, pacer.in_flight_bytes + bytes, bytes, now);
        }
        assert_eq!(pacer.allowance(other, now), 0);
        let later = pacer.stalled_at();
        assert_eq!(pacer.allowance(ID, later), 0);
        let bytes = pacer.allowance(other, later);
        pacer.sent(other, bytes, bytes, later);
        assert_eq!(pacer.allowance(Uuid::from_u128(3), later), 0, "one at a time");
        assert_eq!(pacer.acknowledged(other, bytes, later), BTreeSet::from([ID]));
        assert_eq!(pacer.in_flight_bytes, 0);
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
