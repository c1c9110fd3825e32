//! What is wrong with a cron entry that does not parse, in a few words. Pure.

/// A field: its name, its bounds, and the words that stand for numbers.
type Field = (&'static str, u32, u32, &'static [&'static str]);

const MONTHS: &[&str] =
    &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FIELDS: [Field; 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day", 1, 31, &[]),
    ("month", 1, 12, MONTHS),
    ("weekday", 0, 7, WEEKDAYS),
];

/// The first value that a field can't have; `None` if the entry is wrong in another way.
pub(super) fn wrong_value(text: &str) -> Option<String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return None;
    }
    let mut fields = FIELDS.iter().zip(fields);
    fields.find_map(|(known, field)| field.split(',').find_map(|item| wrong_item(known, item)))
}

fn wrong_item(&(name, least, most, words): &Field, item: &str) -> Option<String> {
    let range = item.split('/').next().unwrap_or_default();
    range.split('-').find_map(|end| {
        if let Ok(number) = end.parse::<u32>() {
            let is_outside = !(least..=most).contains(&number);
            return is_outside.then(|| format!("{name} {number} is not {least} to {most}"));
        }
        let is_known = words.iter().any(|word| word.eq_ignore_ascii_case(end));
        // One letter has a meaning of its own, such as `L`.
        let is_word = end.len() > 1 && end.bytes().all(|byte| byte.is_ascii_alphabetic());
        (is_word && !is_known).then(|| format!("{range} is no {name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_wrong_value_is_named_with_its_field() {
        for (text, problem) in [
            ("61 * * * *", Some("minute 61 is not 0 to 59")),
            ("0 2,24 * * *", Some("hour 24 is not 0 to 23")),
            ("0 0 0 * *", Some("day 0 is not 1 to 31")),
            ("0 0 1 13 *", Some("month 13 is not 1 to 12")),
            ("0 9 * * MON-FRX", Some("MON-FRX is no weekday")),
            ("0 9 * JANUARY *", Some("JANUARY is no month")),
            ("0 9 L * MON-FRI", None),
            ("*/5 0-23/2 ? jan,FEB 7", None),
            ("* * *", None),
        ] {
            assert_eq!(wrong_value(text).as_deref(), problem, "{text}");
        }
    }
}
