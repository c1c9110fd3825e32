//! Tests masked output against its definition.

use super::*;
use muster_protocol::parameter::Parameters;
use proptest::prelude::*;
use proptest::sample::subsequence;

fn secrets(values: &[String]) -> SecretParameters {
    let named = values.iter().enumerate().map(|(n, value)| (format!("S{n}"), value.clone()));
    named.collect::<Parameters>().into()
}

fn masker(values: &[String]) -> Option<Masker> {
    Masks::of(&secrets(values)).expect("small").map(Masker::new)
}

/// The masked output after reads that end at `cuts`.
fn masked(values: &[String], input: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut output = Vec::new();
    let mut masker = masker(values).expect("something to mask");
    let mut begin = 0;
    for cut in cuts.iter().copied().chain([input.len()]) {
        masker.push(&input[begin..cut], &mut |bytes| output.extend_from_slice(bytes));
        begin = cut;
    }
    masker.finish(&mut |bytes| output.extend_from_slice(bytes));
    output
}

/// The same by the definition: every byte of every occurrence is masked.
fn masked_whole(values: &[String], input: &[u8]) -> Vec<u8> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let forms = Forms::of(&secrets(values));
    for form in &forms.plain {
        let ends = form.len()..=input.len();
        let found = ends.filter(|end| input[..*end].ends_with(form));
        ranges.extend(found.map(|end| end - form.len()..end));
    }
    for form in &forms.base64 {
        let starts = 0..input.len();
        ranges.extend(starts.filter_map(|start| Some(start..wrapped_end(form, input, start)?)));
    }
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut output = Vec::new();
    let mut done = 0;
    for range in ranges {
        if range.start >= done {
            output.extend_from_slice(&input[done..range.start]);
            output.extend_from_slice(MASK);
        }
        done = done.max(range.end);
    }
    output.extend_from_slice(&input[done..]);
    output
}

/// The end of this form of base64 if it starts here, with at most one line break between letters.
fn wrapped_end(form: &[u8], input: &[u8], start: usize) -> Option<usize> {
    let mut end = start;
    for (index, letter) in form.iter().enumerate() {
        if index > 0 {
            let rest = &input[end..];
            end += match rest {
                [b'\r', b'\n', ..] => 2,
                [b'\r' | b'\n', ..] => 1,
                _ => 0,
            };
        }
        if standard_letter(*input.get(end)?) != *letter {
            return None;
        }
        end += 1;
    }
    Some(end)
}

fn wrapped(text: &[u8], column: usize, between: &[u8]) -> Vec<u8> {
    text.chunks(column).collect::<Vec<_>>().join(between)
}

/// Few different letters, so that values overlap each other and themselves.
fn values() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab%\\n\"]{4,9}", 1..4).prop_filter("something to mask", |values| {
        values.iter().any(|value| value.trim_end().len() >= MIN_SECRET_BYTES)
    })
}

fn input() -> impl Strategy<Value = (Vec<String>, Vec<u8>, Vec<usize>)> {
    values().prop_flat_map(|values| {
        let forms = Forms::of(&secrets(&values));
        let piece = prop_oneof![
            prop::sample::select(values.clone()).prop_map(String::into_bytes),
            prop::sample::select(forms.plain),
            (prop::sample::select(forms.base64), 1..9_usize, "\r?\n{1,2}")
                .prop_map(|(form, column, between)| wrapped(&form, column, between.as_bytes())),
            "[\r\n]{1,2}".prop_map(String::into_bytes),
            "[abc%]{0,6}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..5),
        ];
        let text = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
        (Just(values), text).prop_flat_map(|(values, text)| {
            let offsets: Vec<usize> = (0..=text.len()).collect();
            let cuts = subsequence(offsets.clone(), 0..=offsets.len());
            (Just(values), Just(text), cuts)
        })
    })
}

proptest! {
    #[test]
    fn no_secret_remains_in_output_that_is_split_at_any_point((values, text, cuts) in input()) {
        let output = masked(&values, &text, &cuts);
        prop_assert_eq!(&output, &masked_whole(&values, &text));
        for value in values.iter().map(|value| value.trim_end_matches('\n')) {
            if value.len() < MIN_SECRET_BYTES {
                continue;
            }
            let is_left = output.windows(value.len()).any(|part| part == value.as_bytes());
            prop_assert!(!is_left, "{value} is left in {output:?}");
        }
    }

    #[test]
    fn only_bytes_that_may_start_a_secret_are_held_back((values, text, _) in input()) {
        let mut masker = masker(&values).expect("something to mask");
        let Forms { plain, base64 } = Forms::of(&secrets(&values));
        for byte in text {
            masker.push(&[byte], &mut |_| {});
            let held = &masker.held;
            let letters = held.iter().filter(|byte| !is_line_break(**byte));
            let letters: Vec<u8> = letters.map(|byte| standard_letter(*byte)).collect();
            let starts = |forms: &[Vec<u8>], held: &[u8]| {
                forms.iter().any(|form| form.len() > held.len() && form.starts_with(held))
            };
            prop_assert!(starts(&plain, held) || starts(&base64, &letters), "{held:?}");
            prop_assert!(held.len() <= 3 * letters.len() + 1 || starts(&plain, held), "{held:?}");
        }
    }

    #[test]
    fn output_without_secrets_is_unchanged(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let values = ["\u{1F511} none of it holds this".to_owned()];
        prop_assert_eq!(masked(&values, &text, &[text.len() / 2]), text);
    }
}

#[test]
fn the_longest_secret_is_masked_and_adjacent_secrets_stay_separate() {
    let values = ["secret".to_owned(), "secretly".to_owned(), "lyre".to_owned()];
    let shown = |text: &str| String::from_utf8(masked(&values, text.as_bytes(), &[3])).unwrap();
    assert_eq!(shown("a secretly kept secret"), "a *** kept ***");
    assert_eq!(shown("secretlyre secretsecret secre"), "*** ****** secre");
    assert_eq!(shown("c2VjcmV0Cg== c2VjcmV0"), "***== ***");
}

#[test]
fn short_values_are_not_masked_and_line_breaks_at_the_end_do_not_hide_a_value() {
    assert!(masker(&["abc".to_owned(), "abc\n".to_owned(), String::new()]).is_none());
    assert_eq!(masked(&["pass word\n".to_owned()], b"=pass word; pass%20word", &[]), b"=***; ***");
}

/// A secret of 200 bytes without any pattern.
fn long_secret() -> String {
    (0..200_u32).map(|n| char::from(b'!' + u8::try_from(n * n * 7 % 90).expect("small"))).collect()
}

/// The longest part of `encoded` that is left in `output`, in letters.
fn longest_left(output: &[u8], encoded: &[u8]) -> usize {
    let letters = |text: &[u8]| -> Vec<u8> {
        text.iter().copied().filter(|byte| !is_line_break(*byte)).collect()
    };
    let (output, encoded) = (letters(output), letters(encoded));
    let is_left = |length: &usize| {
        encoded.windows(*length).any(|part| output.windows(*length).any(|left| left == part))
    };
    (1..=encoded.len()).take_while(is_left).last().unwrap_or(0)
}

#[test]
fn base64_is_masked_at_any_offset_wrapped_at_any_column_and_in_both_alphabets() {
    use data_encoding::{BASE64, BASE64URL};
    let secret = long_secret();
    for prefix in ["", "u", "us", "user:", "Authorization: user:"] {
        for suffix in ["", "\n", ":and more", "~~~"] {
            let text = format!("{prefix}{secret}{suffix}");
            for encoded in [BASE64.encode(text.as_bytes()), BASE64URL.encode(text.as_bytes())] {
                for (column, between) in [(64, "\n"), (76, "\n"), (76, "\r\n"), (10_000, "")] {
                    let printed = wrapped(encoded.as_bytes(), column, between.as_bytes());
                    let output = masked(std::slice::from_ref(&secret), &printed, &[5, 70, 100]);
                    // A letter at the start mixes the secret with what precedes it.
                    let begin = (8 * prefix.len()).div_ceil(6);
                    let end = 8 * (prefix.len() + secret.len()) / 6;
                    let left = longest_left(&output, &encoded.as_bytes()[begin..end]);
                    assert!(left < 4, "{left} letters of {text:?} are left at column {column}");
                    assert!(output.windows(3).any(|part| part == MASK), "{text}");
                }
            }
        }
    }
}

#[test]
fn every_line_of_a_secret_is_masked_where_it_is_printed_alone() {
    let key =
        "-----BEGIN KEY-----\r\nMIIEowIBAAKC\n  q83vEjRWeJ  \nab\n-----END KEY-----\n".to_owned();
    let printed = b"1: MIIEowIBAAKC\n2: q83vEjRWeJ;\nab -----END KEY-----";
    assert_eq!(masked(&[key], printed, &[9]), b"1: ***\n2: ***;\nab ***");
}

#[test]
fn secret_is_masked_as_json_encoders_escape_it() {
    let secret = "p\"w\\d/1<\u{e9}\n\t2\u{1}\u{1f511}".to_owned();
    for printed in [
        serde_json::to_string(&secret).expect("JSON"),
        r#""p\"w\\d\/1<é\n\t2\u0001🔑""#.to_owned(),
        r#""p\"w\\d/1<\u00e9\n\t2\u0001\ud83d\udd11""#.to_owned(),
        r#""p\"w\\d/1\u003cé\n\t2\u0001🔑""#.to_owned(),
    ] {
        let value: String = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(value, secret, "{printed}");
        let output = masked(std::slice::from_ref(&secret), printed.as_bytes(), &[4]);
        assert_eq!(String::from_utf8(output).expect("text"), "\"***\"", "{printed}");
    }
}
