//! Rules as plain sentences.

use super::cron::CronEntry;

const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Times of day that a sentence lists.
const LISTED_TIMES: usize = 4;

/// A sentence such as "every weekday at 09:00, Europe/Berlin". Entries that have no short sentence get
/// croner's description.
pub(super) fn of_cron(entry: &CronEntry) -> String {
    let zone = entry.zone_name();
    match short(&entry.fields()) {
        Some(sentence) => format!("{sentence}, {zone}"),
        None => {
            let description = entry.description();
            let mut letters = description.trim_end_matches('.').chars();
            let first = letters.next().map(|first| first.to_ascii_lowercase());
            format!("{}{}, {zone}", first.unwrap_or_default(), letters.as_str())
        }
    }
}

/// "every 90 seconds".
pub(super) fn of_interval(every_ms: u64) -> String {
    for (unit_ms, unit) in
        [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second")]
    {
        if every_ms.is_multiple_of(unit_ms) {
            return every(every_ms / unit_ms, unit);
        }
    }
    every(every_ms, "millisecond")
}

fn every(count: u64, unit: &str) -> String {
    match count {
        1 => format!("every {unit}"),
        count => format!("every {count} {unit}s"),
    }
}

fn short(fields: &[&str]) -> Option<String> {
    let [minute, hour, day, month, weekday] = fields else { return None };
    let months = in_months(month)?;
    let days = match (*day, *weekday) {
        ("*", "*") => "every day".to_owned(),
        ("*", weekday) => format!("every {}", on_weekdays(weekday)?),
        ("L", "*") => format!("on the last day of {}", every_month(month)),
        (day, "*") => {
            let days = numbers(day)?;
            let word = if days.len() == 1 { "day" } else { "days" };
            let days: Vec<_> = days.iter().map(u32::to_string).collect();
            format!("on {word} {} of {}", list(&days), every_month(month))
        }
        _ => return None,
    };
    let is_any_day = days == "every day";
    // Such a sentence has named the months.
    let months = if days.starts_with("on ") { String::new() } else { months };
    // `*/7` starts again with each hour, so it is no rhythm.
    let step = |field: &str, whole: u64| {
        let step = field.strip_prefix("*/").and_then(|step| step.parse::<u64>().ok());
        step.filter(|step| *step > 0 && whole.is_multiple_of(*step))
    };
    let rhythm = match (*minute, *hour) {
        ("*", "*") => Some("every minute".to_owned()),
        (minute, "*") if step(minute, 60).is_some() => {
            step(minute, 60).map(|step| every(step, "minute"))
        }
        ("0", "*") => Some("every hour".to_owned()),
        (minute, "*") => {
            let minute: u32 = minute.parse().ok()?;
            Some(format!("every hour at {minute} minutes past the hour"))
        }
        ("0", hour) if step(hour, 24).is_some() => step(hour, 24).map(|step| every(step, "hour")),
        _ => None,
    };
    Some(match rhythm {
        Some(rhythm) if is_any_day => format!("{rhythm}{months}"),
        Some(rhythm) => format!("{rhythm} {}{months}", days.replacen("every ", "on every ", 1)),
        None => format!("{days} at {}{months}", times(minute, hour)?),
    })
}

fn times(minute: &str, hour: &str) -> Option<String> {
    let (minutes, hours) = (numbers(minute)?, numbers(hour)?);
    if minutes.len() * hours.len() > LISTED_TIMES {
        return None;
    }
    let at = |hour: &u32| minutes.iter().map(move |minute| (*hour, *minute)).collect::<Vec<_>>();
    let times = hours.iter().flat_map(at).map(|(hour, minute)| format!("{hour:02}:{minute:02}"));
    Some(list(&times.collect::<Vec<_>>()))
}

fn on_weekdays(field: &str) -> Option<String> {
    match field {
        "1-5" => return Some("weekday".to_owned()),
        "6,0" | "0,6" | "6-7" | "6,7" => return Some("Saturday and Sunday".to_owned()),
        _ => {}
    }
    let days = match field.split_once('-') {
        Some((first, last)) if !field.contains([',', '/', '#']) => {
            (first.parse().ok()?..=last.parse().ok()?).collect()
        }
        _ => numbers(field)?,
    };
    let names: Option<Vec<_>> = days
        .iter()
        .map(|day: &u32| WEEKDAYS.get(*day as usize % 7).map(ToString::to_string))
        .collect();
    names.map(|names| list(&names))
}

/// "" or " in January and July".
fn in_months(field: &str) -> Option<String> {
    if field == "*" {
        return Some(String::new());
    }
    month_names(field).map(|names| format!(" in {names}"))
}

fn every_month(field: &str) -> String {
    month_names(field).unwrap_or_else(|| "every month".to_owned())
}

fn month_names(field: &str) -> Option<String> {
    let names: Option<Vec<_>> = numbers(field)?
        .iter()
        .map(|month| MONTHS.get((*month as usize).checked_sub(1)?).map(ToString::to_string))
        .collect();
    names.map(|names| list(&names))
}

fn numbers(field: &str) -> Option<Vec<u32>> {
    field.split(',').map(|number| number.parse().ok()).collect()
}

/// "a", "a and b", "a, b and c".
fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cron_entries_read_as_sentences() {
        for (cron, sentence) in [
            ("0 9 * * MON-FRI", "every weekday at 09:00"),
            ("30 2 * * *", "every day at 02:30"),
            ("0 2,14 * * *", "every day at 02:00 and 14:00"),
            ("0 9 * * MON,THU", "every Monday and Thursday at 09:00"),
            ("0 9 * * SUN", "every Sunday at 09:00"),
            ("0 9 * * TUE-THU", "every Tuesday, Wednesday and Thursday at 09:00"),
            ("0 0 1 * *", "on day 1 of every month at 00:00"),
            ("0 6 1,15 * *", "on days 1 and 15 of every month at 06:00"),
            ("0 6 L * *", "on the last day of every month at 06:00"),
            ("0 6 1 1,7 *", "on day 1 of January and July at 06:00"),
            ("0 6 * DEC *", "every day at 06:00 in December"),
            ("*/15 * * * *", "every 15 minutes"),
            ("* * * * *", "every minute"),
            ("5 * * * *", "every hour at 5 minutes past the hour"),
            ("0 */6 * * *", "every 6 hours"),
            ("*/5 * * * MON-FRI", "every 5 minutes on every weekday"),
            ("@daily", "every day at 00:00"),
            ("@hourly", "every hour"),
            ("@weekly", "every Sunday at 00:00"),
            ("@yearly", "on day 1 of January at 00:00"),
        ] {
            let entry = CronEntry::parse(cron, "Europe/Berlin").expect("valid");
            assert_eq!(of_cron(&entry), format!("{sentence}, Europe/Berlin"), "{cron}");
        }
    }

    #[test]
    fn other_entries_get_a_description_of_their_fields() {
        for cron in ["0 9 * * MON#1", "0 9 * * 5#L", "0 9 13 * FRI", "7-59/13 3 * * *"] {
            let entry = CronEntry::parse(cron, "UTC").expect("valid");
            let sentence = of_cron(&entry);
            assert!(sentence.ends_with(", UTC") && sentence.len() > 20, "{cron}: {sentence}");
        }
    }

    #[test]
    fn intervals_read_as_sentences() {
        for (every_ms, sentence) in [
            (1_000, "every second"),
            (90_000, "every 90 seconds"),
            (3_600_000, "every hour"),
            (7_200_000, "every 2 hours"),
            (86_400_000, "every day"),
            (1_500, "every 1500 milliseconds"),
        ] {
            assert_eq!(of_interval(every_ms), sentence);
        }
    }
}
