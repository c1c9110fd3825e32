//! Tests of what is stored of output, and of what is counted as dropped.

use data_encoding::HEXLOWER;
use muster_protocol::frame::output::records_of;
use proptest::prelude::*;
use ring::digest;

use super::*;
use crate::executions::ledger::checkpoints;

proptest! {
    #[test]
    fn stored_output_is_a_prefix_with_its_hash_and_the_rest_is_counted_as_dropped(
        writes in prop::collection::vec((any::<bool>(), any::<bool>(), prop::collection::vec(any::<u8>(), 1..400)), 0..20),
        limit_bytes in 0u64..3000,
    ) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let execution = ExecutionDir::at(folder.path().into());
        let limits = RecorderLimits { limit_bytes, quota_bytes: u64::MAX, executions: folder.path().into(), spool_bytes: None };
        let mut recorder = Recorder::create(&execution, limits);
        let mut all = Vec::new();
        let mut turns = 0;
        let mut last = None;
        for (is_stderr, is_looked_at, bytes) in &writes {
            let stream = if *is_stderr { Stream::Stderr } else { Stream::Stdout };
            recorder.buffer_for(stream)[..bytes.len()].copy_from_slice(bytes);
            recorder.record(bytes.len());
            turns += usize::from(last != Some(stream));
            last = Some(stream);
            all.extend_from_slice(bytes);
            if *is_looked_at {
                recorder.flush();
                last = None;
            }
        }
        let result = recorder.finish(0);
        let kept = all.len().min(limit_bytes as usize);
        let file = fs::read(execution.output()).expect("written");
        let records: Vec<_> = records_of(&file).map(|record| record.expect("whole")).collect();
        prop_assert!(records.len() <= turns, "reads of one stream share a record");
        let payload: Vec<u8> =
            records.iter().flat_map(|record| record.payload.to_vec()).collect();
        prop_assert_eq!(&payload, &all[..kept]);
        prop_assert_eq!(result.output_bytes, kept as u64);
        prop_assert_eq!(result.dropped_bytes, (all.len() - kept) as u64);
        prop_assert_eq!(result.output_complete, kept == all.len());
        let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, &all[..kept]).as_ref());
        prop_assert_eq!(result.output_sha256, Some(hash));
    }
}

proptest! {
    #[test]
    fn output_of_a_service_goes_on_after_it_was_full_and_each_gap_has_its_exact_size(
        steps in prop::collection::vec((any::<bool>(), 8usize..4000, prop::option::weighted(0.2, 0u8..=100)), 1..120),
    ) {
        const SPOOL: u64 = 40_000;
        let folder = tempfile::tempdir().expect("temporary folder");
        let execution = ExecutionDir::at(folder.path().into());
        let limits = RecorderLimits {
            limit_bytes: u64::MAX,
            quota_bytes: u64::MAX,
            executions: "/none".into(),
            spool_bytes: Some(SPOOL),
        };
        let mut recorder = Recorder::create(&execution, limits);
        let output = execution.output();
        // What the file has contained, also after parts of it were released.
        let mut seen = Vec::new();
        for (number, (is_stderr, length, acked)) in steps.iter().enumerate() {
            let stream = if *is_stderr { Stream::Stderr } else { Stream::Stdout };
            recorder.record_bytes(stream, &written(number, *length));
            recorder.flush();
            seen.extend_from_slice(&fs::read(&output).expect("read")[seen.len()..]);
            prop_assert!(output_release::held_bytes(&output) <= SPOOL);
            if let Some(percent) = acked {
                let acked = recorder.stored_bytes() * u64::from(*percent) / 100;
                output_release::release(&output, acked).expect("this file system has holes");
                let released = output_release::released_bytes(&output) as usize;
                let file = fs::read(&output).expect("read");
                prop_assert!(file[released..] == seen[released..], "nothing else is lost");
                prop_assert!(file[..released].iter().all(|byte| *byte == 0));
                if acked == recorder.stored_bytes() {
                    // A checkpoint may be before the end of the file, but most of the bound is free now.
                    recorder.store_waiting();
                    seen.extend_from_slice(&fs::read(&output).expect("read")[seen.len()..]);
                    prop_assert!(!recorder.is_waiting(), "what waited is stored without a further write");
                }
            }
        }
        let result = recorder.finish(0);
        seen.extend_from_slice(&fs::read(&output).expect("read")[seen.len()..]);
        let last = records_of(&seen).last().expect("a record").expect("whole");
        let newest = written(steps.len() - 1, steps[steps.len() - 1].1);
        prop_assert_eq!(last.payload, newest, "the newest output is kept");
        let mut expected = steps.iter().enumerate();
        let (mut missing, mut missing_in_all, mut payload) = (0, 0, Vec::new());
        for record in records_of(&seen).map(|record| record.expect("whole")) {
            payload.extend_from_slice(record.payload);
            if record.payload.starts_with(b"\n[muster: ") {
                let line = std::str::from_utf8(record.payload).expect("text");
                let count = line.split(' ').nth(1).and_then(|count| count.parse::<u64>().ok());
                let count = count.expect("a number");
                while missing < count {
                    missing += expected.next().expect("it was printed").1.1 as u64;
                }
                prop_assert_eq!(missing, count);
                missing_in_all += std::mem::take(&mut missing);
                continue;
            }
            let (number, (is_stderr, length, _)) = expected.next().expect("it was printed");
            prop_assert_eq!(record.payload, written(number, *length));
            prop_assert_eq!(record.stream == Stream::Stderr, *is_stderr);
        }
        prop_assert!(expected.next().is_none(), "what is missing at the end is counted too");
        prop_assert_eq!(result.dropped_bytes, missing_in_all);
        prop_assert_eq!(result.output_complete, missing_in_all == 0);
        prop_assert_eq!(result.output_bytes, payload.len() as u64);
        let hash = HEXLOWER.encode(digest::digest(&digest::SHA256, &payload).as_ref());
        prop_assert_eq!(result.output_sha256, Some(hash));
    }
}

/// Bytes that are of one write only.
fn written(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (number * 31 + at * 7 % 253) as u8).collect()
}

#[test]
fn the_hosts_quota_limits_stored_output_above_a_small_free_amount() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let execution = ExecutionDir::at(folder.path().join("execution"));
    fs::create_dir(execution.path()).expect("created");
    let limits = RecorderLimits {
        limit_bytes: u64::MAX,
        quota_bytes: 1,
        executions: folder.path().into(),
        spool_bytes: None,
    };
    let mut recorder = Recorder::create(&execution, limits);
    for _ in 0..20 {
        recorder.buffer_for(Stream::Stdout)[..10_000].fill(1);
        recorder.record(10_000);
        recorder.flush();
    }
    let result = recorder.finish(0);
    assert_eq!((result.output_bytes, result.dropped_bytes), (60_000, 140_000));
    assert!(!result.output_complete);
}

#[test]
fn checkpoints_of_a_long_output_are_at_record_ends() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let execution = ExecutionDir::at(folder.path().into());
    let limits = RecorderLimits {
        limit_bytes: 3_000_000,
        quota_bytes: u64::MAX,
        executions: "/none".into(),
        spool_bytes: None,
    };
    let mut recorder = Recorder::create(&execution, limits);
    for turn in 0..1_000 {
        let stream = if turn % 20 == 0 { Stream::Stderr } else { Stream::Stdout };
        recorder.buffer_for(stream)[..SMALL_READ_BYTES].fill(7);
        recorder.record(SMALL_READ_BYTES);
    }
    recorder.finish(0);
    let file = fs::read(execution.output()).expect("written");
    let mark = checkpoints::last(&execution.output(), u64::MAX, |_| true);
    assert!(mark.position > 2 * 1024 * 1024, "{mark:?}");
    let mut counted = Checkpoint::default();
    for record in records_of(&file[..mark.position as usize]) {
        let record = record.expect("a checkpoint is at the end of a record");
        match record.stream {
            Stream::Stdout => counted.stdout_bytes += record.payload.len() as u64,
            Stream::Stderr => counted.stderr_bytes += record.payload.len() as u64,
        }
    }
    assert_eq!(mark, Checkpoint { position: mark.position, ..counted });
}
