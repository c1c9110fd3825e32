//! Due times over changes of the clocks, against a table and against a second implementation that
//! goes through every minute.

use std::collections::BTreeSet;

use chrono::{Datelike as _, NaiveDateTime, TimeZone as _, Timelike as _};
use chrono_tz::Tz;
use proptest::prelude::*;

use super::cron::{ClockChange, CronEntry};
use crate::domain::time::Timestamp;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("an instant")
}

fn due(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let entry = CronEntry::parse(cron, zone).expect("a valid entry");
    let due = std::iter::successors(entry.next_after(at(from).minus_ms(1)), |last| {
        entry.next_after(*last)
    });
    let due = due.take_while(|due| *due < at(to));
    due.map(|due| entry.local(due).expect("in range").format("%d %H:%M%:z").to_string()).collect()
}

/// Zone, entry, first and last day in UTC, and the local times with their offsets.
const CHANGES: &[(&str, &str, &str, &str, &[&str])] = &[
    // Europe/Berlin: 02:00 to 03:00 is missing on 29 March 2026, and occurs twice on 25 October.
    (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-03-28",
        "2026-03-31",
        &["28 02:30+01:00", "29 03:00+02:00", "30 02:30+02:00"],
    ),
    ("Europe/Berlin", "0,30 2 * * *", "2026-03-29", "2026-03-30", &["29 03:00+02:00"]),
    (
        "Europe/Berlin",
        "0 2,14 * * *",
        "2026-03-29",
        "2026-03-30",
        &["29 03:00+02:00", "29 14:00+02:00"],
    ),
    (
        "Europe/Berlin",
        "30 2 * * *",
        "2026-10-24",
        "2026-10-27",
        &["24 02:30+02:00", "25 02:30+02:00", "26 02:30+01:00"],
    ),
    (
        "Europe/Berlin",
        "*/30 * * * *",
        "2026-03-29T00:00:00Z",
        "2026-03-29T02:00:00Z",
        &["29 01:00+01:00", "29 01:30+01:00", "29 03:00+02:00", "29 03:30+02:00"],
    ),
    (
        "Europe/Berlin",
        "*/30 2 * * *",
        "2026-10-25",
        "2026-10-26",
        &["25 02:00+02:00", "25 02:30+02:00", "25 02:00+01:00", "25 02:30+01:00"],
    ),
    ("Europe/Berlin", "*/30 2 * * *", "2026-03-29", "2026-03-30", &[]),
    // America/New_York: changes on 8 March and 1 November 2026.
    ("America/New_York", "15 2 * * *", "2026-03-08", "2026-03-09", &["08 03:00-04:00"]),
    ("America/New_York", "15 1 * * *", "2026-11-01", "2026-11-02", &["01 01:15-04:00"]),
    (
        "America/New_York",
        "15 * * * *",
        "2026-11-01T04:30:00Z",
        "2026-11-01T08:00:00Z",
        &["01 01:15-04:00", "01 01:15-05:00", "01 02:15-05:00"],
    ),
    // Australia/Lord_Howe: half an hour. 02:00 to 02:30 is missing on 4 October 2026, 01:30 to 02:00
    // occurs twice on 5 April.
    (
        "Australia/Lord_Howe",
        "10 2 * * *",
        "2026-10-03T12:00:00Z",
        "2026-10-04T12:00:00Z",
        &["04 02:30+11:00"],
    ),
    (
        "Australia/Lord_Howe",
        "45 1 * * *",
        "2026-04-04T12:00:00Z",
        "2026-04-05T12:00:00Z",
        &["05 01:45+11:00"],
    ),
    (
        "Australia/Lord_Howe",
        "*/15 1 * * *",
        "2026-04-04T12:00:00Z",
        "2026-04-05T12:00:00Z",
        &[
            "05 01:00+11:00",
            "05 01:15+11:00",
            "05 01:30+11:00",
            "05 01:45+11:00",
            "05 01:30+10:30",
            "05 01:45+10:30",
        ],
    ),
    // Pacific/Chatham: 02:45 to 03:45 is missing on 27 September 2026 and occurs twice on 5 April.
    (
        "Pacific/Chatham",
        "0 3 * * *",
        "2026-09-26T12:00:00Z",
        "2026-09-27T12:00:00Z",
        &["27 03:45+13:45"],
    ),
    (
        "Pacific/Chatham",
        "0 3 * * *",
        "2026-04-04T10:00:00Z",
        "2026-04-05T10:00:00Z",
        &["05 03:00+13:45"],
    ),
    // Asia/Kathmandu: an odd offset without changes.
    (
        "Asia/Kathmandu",
        "30 2 * * *",
        "2026-03-28T20:00:00Z",
        "2026-03-30T20:00:00Z",
        &["29 02:30+05:45", "30 02:30+05:45"],
    ),
    // Antarctica/Troll: two hours. 01:00 to 03:00 is missing on 29 March 2026, and occurs twice on
    // 25 October.
    ("Antarctica/Troll", "30 1 * * *", "2026-03-29", "2026-03-29T12:00:00Z", &["29 03:00+02:00"]),
    ("Antarctica/Troll", "30 2 * * *", "2026-10-25", "2026-10-26", &["25 02:30+02:00"]),
    // America/Santiago: midnight is missing on 6 September 2026.
    ("America/Santiago", "0 0 * * *", "2026-09-06", "2026-09-07", &["06 01:00-03:00"]),
    // America/Nuuk: the last hour of Saturday, 28 March 2026, is missing, so its time is on Sunday.
    (
        "America/Nuuk",
        "30 23 * * SAT",
        "2026-03-28",
        "2026-04-05T12:00:00Z",
        &["29 00:00-01:00", "04 23:30-01:00"],
    ),
    // Pacific/Apia: the whole 30 December 2011 is missing.
    (
        "Pacific/Apia",
        "0 9 * * *",
        "2011-12-29T12:00:00Z",
        "2011-12-31T12:00:00Z",
        &["29 09:00-10:00", "31 00:00+14:00", "31 09:00+14:00"],
    ),
];

#[test]
fn times_that_do_not_exist_or_occur_twice_are_due_once() {
    for (zone, cron, from, to, expected) in CHANGES {
        let day = |text: &str| match text.contains('T') {
            true => text.to_owned(),
            false => format!("{text}T00:00:00Z"),
        };
        assert_eq!(due(cron, zone, &day(from), &day(to)), *expected, "{cron} in {zone}");
    }
}

/// The cases in Markdown.
fn table_of_cases() -> String {
    let rows = CHANGES.iter().map(|(zone, cron, from, to, due)| {
        let due = if due.is_empty() { "–".to_owned() } else { due.join("<br>") };
        format!("| {zone} | `{cron}` | {from} | {to} | {due} |\n")
    });
    let head =
        "| zone | entry | from (UTC) | to | due: day and local time |\n|---|---|---|---|---|\n";
    format!("{head}{}", rows.collect::<String>())
}

#[test]
fn documentation_has_the_table_of_cases() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SCHEDULES.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let table = table_of_cases();
    println!("{table}");
    if std::env::var_os("MUSTER_WRITE_DOCS").is_some() {
        let (before, rest) = page.split_once("| zone | entry | from").expect("the table");
        let (_, after) = rest.split_once("\n\n").expect("what follows the table");
        std::fs::write(path, format!("{before}{table}\n{after}")).expect("write");
        return;
    }
    assert!(page.contains(&table), "write it with MUSTER_WRITE_DOCS=1");
}

#[test]
fn preview_marks_what_a_change_of_the_clocks_did() {
    let entry = CronEntry::parse("30 2 * * *", "Europe/Berlin").expect("valid");
    let change = |text: &str| entry.clock_change(at(text));
    assert_eq!(change("2026-03-29T01:00:00Z"), Some(ClockChange::AfterGap));
    assert_eq!(change("2026-10-25T00:30:00Z"), Some(ClockChange::RepeatedTime));
    assert_eq!(change("2026-05-01T00:30:00Z"), None);
}

/// One field of the second implementation: the values that match.
fn values(field: &str, least: u32, most: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first), number(last)),
            None if range == "*" => (least, most),
            None => (number(range), number(range)),
        };
        found.extend((first..=last).step_by(step.parse().expect("a step")));
    }
    found
}

fn number(text: &str) -> u32 {
    let names = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let name = names.iter().position(|name| *name == text);
    name.map_or_else(|| text.parse().expect("a number"), |day| u32::try_from(day).expect("small"))
}

fn is_day(time: NaiveDateTime, day: &str, weekday: &str) -> bool {
    let days_of_month = i64::from(time.date().num_days_in_month());
    let by_day = match day {
        "L" => i64::from(time.day()) == days_of_month,
        day => values(day, 1, 31).contains(&time.day()),
    };
    let today = time.weekday().num_days_from_sunday();
    let by_weekday = match weekday.split_once('#') {
        Some((name, "L")) => number(name) == today && i64::from(time.day()) + 7 > days_of_month,
        Some((name, nth)) => number(name) == today && (time.day() - 1) / 7 + 1 == number(nth),
        None => values(weekday, 0, 6).contains(&today),
    };
    match (day, weekday) {
        ("*", _) => by_weekday,
        (_, "*") => by_day,
        _ => by_day || by_weekday,
    }
}

fn matches(cron: &str, time: NaiveDateTime) -> bool {
    let fields: Vec<&str> = cron.split(' ').collect();
    values(fields[0], 0, 59).contains(&time.minute())
        && values(fields[1], 0, 23).contains(&time.hour())
        && values(fields[3], 1, 12).contains(&time.month())
        && is_day(time, fields[2], fields[4])
}

/// The second implementation: goes through all minutes as a clock on the wall shows them.
fn due_minute_by_minute(cron: &str, zone: Tz, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
    let fields: Vec<&str> = cron.split(' ').collect();
    let is_fixed = !fields[0].contains('*') && !fields[1].contains('*');
    let clock = |at: Timestamp| {
        let utc = chrono::DateTime::from_timestamp_millis(at.0).expect("in range");
        zone.from_utc_datetime(&utc.naive_utc()).naive_local()
    };
    let minute = chrono::Duration::minutes(1);
    // Long enough before to know which local times have passed.
    let start = Timestamp(from.0 - 30 * 3_600_000);
    let mut furthest = clock(Timestamp(start.0 - 60_000));
    let mut due = Vec::new();
    for step in 0..minutes + 30 * 60 {
        let now = Timestamp(start.0 + step * 60_000);
        let time = clock(now);
        let is_due = if is_fixed {
            // Everything that the clock newly passed, including what it jumped over.
            let mut passed = furthest + minute;
            let mut is_due = false;
            while passed <= time {
                is_due |= matches(cron, passed);
                passed += minute;
            }
            is_due
        } else {
            matches(cron, time)
        };
        furthest = furthest.max(time);
        if is_due && now >= from {
            due.push(now);
        }
    }
    due
}

fn cron_field(least: u32, most: u32) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (least..=most).prop_map(|value| value.to_string()),
        1 => (least..=most, least..=most).prop_map(|(one, other)| format!("{one},{other}")),
        1 => (least..=most, least..=most)
            .prop_map(|(one, other)| format!("{}-{}", one.min(other), one.max(other))),
        1 => (2..=7_u32).prop_map(|step| format!("*/{step}")),
        1 => (least..=most, 2..=5_u32).prop_map(move |(first, step)| format!("{first}-{most}/{step}")),
        2 => Just("*".to_owned()),
    ]
}

fn entries() -> impl Strategy<Value = String> {
    let day = prop_oneof![6 => Just("*".to_owned()), 1 => Just("L".to_owned()), 1 => cron_field(1, 28)
        .prop_filter("a star with a step is a day of the month for croner", |field| !field.starts_with("*/"))];
    let weekday = prop_oneof![
        5 => Just("*".to_owned()),
        1 => Just("MON-FRI".to_owned()),
        1 => Just("SUN".to_owned()),
        1 => Just("SUN#L".to_owned()),
        1 => Just("SUN#1".to_owned()),
        1 => Just("6".to_owned()),
    ];
    // Mostly the hours in which clocks change.
    let hour =
        prop_oneof![2 => (0..=4_u32).prop_map(|hour| hour.to_string()), 1 => cron_field(0, 23)];
    (cron_field(0, 59), hour, day, weekday)
        .prop_map(|(minute, hour, day, weekday)| format!("{minute} {hour} {day} * {weekday}"))
}

/// Zones, with an instant within 12 hours of a change of their clocks.
fn changes() -> impl Strategy<Value = (Tz, Timestamp)> {
    let changes = [
        (Tz::Europe__Berlin, "2026-03-29T01:00:00Z"),
        (Tz::Europe__Berlin, "2026-10-25T01:00:00Z"),
        (Tz::America__New_York, "2026-03-08T07:00:00Z"),
        (Tz::America__New_York, "2026-11-01T06:00:00Z"),
        (Tz::America__Santiago, "2026-04-05T03:00:00Z"),
        (Tz::America__Santiago, "2026-09-06T04:00:00Z"),
        (Tz::America__Nuuk, "2026-03-29T01:00:00Z"),
        (Tz::America__Nuuk, "2026-10-25T01:00:00Z"),
        (Tz::Australia__Lord_Howe, "2026-04-04T15:00:00Z"),
        (Tz::Australia__Lord_Howe, "2026-10-03T15:30:00Z"),
        (Tz::Pacific__Chatham, "2026-04-04T14:00:00Z"),
        (Tz::Pacific__Chatham, "2026-09-26T14:00:00Z"),
        (Tz::Antarctica__Troll, "2026-03-29T01:00:00Z"),
        (Tz::Antarctica__Troll, "2026-10-25T01:00:00Z"),
        (Tz::Pacific__Apia, "2011-12-30T10:00:00Z"),
        (Tz::Africa__Casablanca, "2026-02-15T02:00:00Z"),
        (Tz::Asia__Kathmandu, "2026-06-01T00:00:00Z"),
    ];
    (prop::sample::select(changes.to_vec()), 0..720_i64)
        .prop_map(|((zone, text), minutes)| (zone, Timestamp(at(text).0 - minutes * 60_000)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn due_times_are_those_of_a_clock_that_is_watched_minute_by_minute(
        cron in entries(),
        (zone, from) in changes(),
    ) {
        let minutes = 2 * 24 * 60;
        let entry = CronEntry::parse(&cron, zone.name()).expect("a valid entry");
        let first = entry.next_after(from.minus_ms(1));
        let end = Timestamp(from.0 + minutes * 60_000);
        let found: Vec<_> = std::iter::successors(first, |last| entry.next_after(*last))
            .take_while(|due| *due < end)
            .collect();
        prop_assert_eq!(found, due_minute_by_minute(&cron, zone, from, minutes), "{} in {}", cron, zone);
    }

    #[test]
    fn next_due_time_does_not_depend_on_the_instant_from_which_it_is_sought(
        cron in entries(),
        (zone, from) in changes(),
        milliseconds in 0..86_400_000_u64,
    ) {
        let entry = CronEntry::parse(&cron, zone.name()).expect("a valid entry");
        let next = entry.next_after(from).expect("it is due again");
        let between = from.plus_ms(milliseconds);
        if between < next {
            prop_assert_eq!(entry.next_after(between), Some(next));
        }
    }
}
