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
    for form in forms(&secrets(values)) {
        let ends = form.len()..=input.len();
        let found = ends.filter(|end| input[..*end].ends_with(&form));
        ranges.extend(found.map(|end| end - form.len()..end));
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

/// Few different letters, so that values overlap each other and themselves.
fn values() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab%]{4,7}", 1..4)
}

fn input() -> impl Strategy<Value = (Vec<String>, Vec<u8>, Vec<usize>)> {
    values().prop_flat_map(|values| {
        let piece = prop_oneof![
            prop::sample::select(values.clone()).prop_map(String::into_bytes),
            prop::sample::select(forms(&secrets(&values))),
            "[abc%]{0,6}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..5),
        ];
        let text = prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
        (Just(values), text).prop_flat_map(|(values, text)| {
            let places: Vec<usize> = (0..=text.len()).collect();
            let cuts = subsequence(places.clone(), 0..=places.len());
            (Just(values), Just(text), cuts)
        })
    })
}

proptest! {
    #[test]
    fn no_secret_remains_in_output_that_is_split_at_any_point((values, text, cuts) in input()) {
        let output = masked(&values, &text, &cuts);
        prop_assert_eq!(&output, &masked_whole(&values, &text));
        for value in &values {
            let is_left = output.windows(value.len()).any(|part| part == value.as_bytes());
            prop_assert!(!is_left, "{value} is left in {output:?}");
        }
    }

    #[test]
    fn only_bytes_that_may_start_a_secret_are_held_back((values, text, _) in input()) {
        let mut masker = masker(&values).expect("something to mask");
        let forms = forms(&secrets(&values));
        for byte in text {
            masker.push(&[byte], &mut |_| {});
            let held = &masker.held;
            prop_assert!(forms.iter().any(|form| form.len() > held.len() && form.starts_with(held)), "{held:?}");
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
