//! Tests of calendars.

use chrono::{Datelike as _, TimeZone as _, Timelike as _};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::calendar::{Calendar, CalendarRecord, EntryKind, Start};
use crate::domain::ids::{CalendarId, PrincipalId, ScheduleId, TenantId};
use crate::domain::time::Timestamp;

fn record(zone: &str, entries: &Value) -> CalendarRecord {
    CalendarRecord {
        id: CalendarId::new(),
        tenant_id: TenantId::new(),
        name: "year end".into(),
        time_zone: zone.into(),
        entries: entries.to_string(),
        target: None,
        schedule_ids: "[]".into(),
        created_by: PrincipalId::OPERATOR,
        created_at: Timestamp(0),
        changed_at: Timestamp(0),
    }
}

fn calendar(zone: &str, entries: &Value) -> Calendar {
    Calendar::new(&record(zone, entries)).expect("valid")
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("an instant")
}

fn kind(calendar: &Calendar, start: Start, text: &str) -> Option<EntryKind> {
    calendar.block(start, at(text)).map(|block| block.kind)
}

#[test]
fn freeze_blocks_everything_and_an_exclusion_only_schedules() {
    let fire = Start::Fire(ScheduleId::new());
    let both = calendar(
        "Europe/Berlin",
        &json!([
            {"kind": "freeze", "note": "sale", "starts_at": "2026-11-27T00:00:00Z", "ends_at": "2026-11-30T00:00:00Z"},
            {"kind": "exclusion", "dates": ["2026-12-25"]},
        ]),
    );
    for start in [fire, Start::Work] {
        assert_eq!(kind(&both, start, "2026-11-26T23:59:59Z"), None);
        assert_eq!(kind(&both, start, "2026-11-27T00:00:00Z"), Some(EntryKind::Freeze));
        assert_eq!(kind(&both, start, "2026-11-30T00:00:00Z"), None);
    }
    let block = both.block(Start::Work, at("2026-11-28T00:00:00Z")).expect("frozen");
    assert_eq!(block.to_string(), "the calendar `year end` has a freeze now (sale)");
    // The day is one of Berlin.
    assert_eq!(kind(&both, fire, "2026-12-24T22:59:59Z"), None);
    assert_eq!(kind(&both, fire, "2026-12-24T23:00:00Z"), Some(EntryKind::Exclusion));
    assert_eq!(kind(&both, fire, "2026-12-25T23:00:00Z"), None);
    assert_eq!(kind(&both, Start::Work, "2026-12-25T12:00:00Z"), None);
}

#[test]
fn window_over_midnight_begins_on_its_days_and_follows_the_clocks() {
    let nightly = calendar(
        "Europe/Berlin",
        &json!([{"kind": "window", "weekly": {"days": ["sat"], "from": "22:00", "until": "04:00"}}]),
    );
    let is_open = |text: &str| kind(&nightly, Start::Work, text).is_none();
    // Saturday, 2026-10-24, 22:00 +02:00 to Sunday 04:00 +01:00: seven hours.
    assert!(!is_open("2026-10-24T19:59:59Z") && is_open("2026-10-24T20:00:00Z"));
    assert!(is_open("2026-10-25T02:59:59Z") && !is_open("2026-10-25T03:00:00Z"));
    assert!(!is_open("2026-10-25T21:00:00Z"), "Sunday evening");
    assert!(!is_open("2026-10-24T01:00:00Z"), "the night before Saturday");
}

#[test]
fn calendar_of_schedules_blocks_no_others() {
    let (one, other) = (ScheduleId::new(), ScheduleId::new());
    let entries = json!([{"kind": "freeze", "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2027-01-01T00:00:00Z"}]);
    let record =
        CalendarRecord { schedule_ids: json!([one]).to_string(), ..record("UTC", &entries) };
    let calendar = Calendar::new(&record).expect("valid");
    assert_eq!(kind(&calendar, Start::Fire(one), "2026-05-01T00:00:00Z"), Some(EntryKind::Freeze));
    assert_eq!(kind(&calendar, Start::Fire(other), "2026-05-01T00:00:00Z"), None);
    assert_eq!(kind(&calendar, Start::Work, "2026-05-01T00:00:00Z"), None);
}

#[test]
fn invalid_entries_are_named() {
    let weekly = |from: &str| json!({"kind": "window", "weekly": {"days": ["mon"], "from": from, "until": "01:00"}});
    for (entry, field) in [
        (json!({"kind": "freeze"}), "entries[0]"),
        (
            json!({"kind": "freeze", "starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}),
            "entries[0].ends_at",
        ),
        (json!({"kind": "exclusion", "dates": ["2026-02-30"]}), "entries[0].dates"),
        (json!({"kind": "exclusion", "dates": ["2026-2-3"]}), "entries[0].dates"),
        (weekly("24:00"), "entries[0].weekly"),
        (weekly("9:00"), "entries[0].weekly"),
        (
            json!({"kind": "window", "dates": ["2026-01-01"], "weekly": {"days": ["mon"], "from": "01:00", "until": "02:00"}}),
            "entries[0]",
        ),
    ] {
        let refused = Calendar::new(&record("UTC", &json!([entry]))).expect_err("invalid");
        assert_eq!(refused.error.field, field, "{entry}");
    }
    let refused = Calendar::new(&record("Berlin", &json!([]))).expect_err("no zone");
    assert_eq!(refused.error.field, "time_zone");
}

proptest! {
    /// Against a table of all minutes of a week.
    #[test]
    fn weekly_window_covers_exactly_its_minutes(
        instant_s in 1_600_000_000_i64..1_900_000_000,
        chosen in prop::collection::btree_set(0_usize..7, 1..=7),
        from in 0_usize..1_440,
        until in 0_usize..1_440,
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham"]),
    ) {
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let mut table = vec![false; 7 * 1_440];
        let length = if from < until { until - from } else { until + 1_440 - from };
        for day in &chosen {
            for minute in 0..length {
                table[(day * 1_440 + from + minute) % (7 * 1_440)] = true;
            }
        }
        let time = |minute: usize| format!("{:02}:{:02}", minute / 60, minute % 60);
        let days: Vec<_> = chosen.iter().map(|day| names[*day]).collect();
        let calendar = calendar(zone, &json!([{"kind": "window",
            "weekly": {"days": days, "from": time(from), "until": time(until)}}]));
        let tz: chrono_tz::Tz = zone.parse().expect("a zone");
        let local = tz.timestamp_opt(instant_s, 0).single().expect("an instant");
        let minute = local.weekday().num_days_from_monday() as usize * 1_440
            + local.hour() as usize * 60 + local.minute() as usize;
        let is_open = calendar.block(Start::Work, Timestamp(instant_s * 1_000)).is_none();
        prop_assert_eq!(is_open, table[minute], "{}", local);
    }
}
