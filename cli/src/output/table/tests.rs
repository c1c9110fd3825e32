use serde_json::json;

use super::*;
use crate::output::state_colours::paint;

/// As it is printed where nothing has colours.
fn table(items: &[Value], columns: &[Column], width: Option<u16>, time: TimeFormat) -> String {
    paint(&super::table(items, columns, width, time), false)
}

#[test]
fn columns_line_up_and_missing_values_are_dashes() {
    let items = [
        json!({"name": "web-1", "tags": ["eu", "web"], "key": {"name": "fleet"}}),
        json!({"name": "a", "tags": [], "key": null}),
    ];
    let columns =
        [Column::of("NAME", "name"), Column::of("TAGS", "tags"), Column::of("KEY", "key.name")];
    assert_eq!(
        table(&items, &columns, None, UTC),
        "NAME   TAGS     KEY\nweb-1  eu, web  fleet\na      -        -"
    );
}

#[test]
fn control_characters_of_hosts_do_not_reach_the_terminal() {
    let items = [json!({"name": "web\u{1b}[2J\u{9b}31m\u{202e}\r\n1", "os": {"a": "\u{9b}"}})];
    let columns = [Column::of("NAME", "name"), Column::of("OS", "os")];
    for width in [None, Some(12)] {
        let text = table(&items, &columns, width, UTC);
        let is_safe = |c: char| c == '\n' || sanitize(&c.to_string()) == c.to_string();
        assert!(text.chars().all(is_safe), "{text:?}");
        assert_eq!(text.lines().count(), 2);
    }
    let shown = details(&items[0], UTC);
    assert_eq!(shown.lines().count(), 2, "{shown:?}");
}

const UTC: TimeFormat = TimeFormat::Utc;
const ID: &str = "01a1fdb4-5130-7149-8191-20f9622b2a14";

fn run() -> Value {
    json!({"id": ID, "state": "succeeded", "created_at": "2026-11-21T10:43:35.344Z",
        "argv": ["a program", "with", "more words than a narrow list can show"]})
}

const RUN: [Column; 4] = [
    Column::of("ID", "id"),
    Column::by("SCRIPT", crate::output::work_summary::work_summary),
    Column::of("STATE", "state"),
    Column::of("CREATED", "created_at"),
];

#[test]
fn table_fits_a_narrow_terminal_and_keeps_ids_whole() {
    let wide = table(&[run()], &RUN, None, UTC);
    assert!(wide.contains("2026-11-21 10:43:35Z"), "{wide}");
    assert_eq!(table(&[run()], &RUN, Some(400), UTC), wide, "nothing is shortened where it fits");
    for width in [76, 80, 100] {
        let narrow = table(&[run()], &RUN, Some(width), UTC);
        assert_eq!(narrow.lines().count(), 2, "{narrow}");
        assert!(narrow.lines().all(|line| line.chars().count() <= width.into()), "{narrow}");
        for whole in [ID, "succeeded", "11-21 10:43Z", "…"] {
            assert!(narrow.contains(whole), "{whole} at {width}: {narrow}");
        }
    }
    // Ids are shortened before columns are left out.
    let less = table(&[run()], &RUN, Some(60), UTC);
    for shown in ["01a1fdb4-5130  'a program", "succeeded", "11-21 10:43Z"] {
        assert!(less.contains(shown) && !less.contains(ID), "{shown}: {less}");
    }
    let least = table(&[run()], &RUN, Some(20), UTC);
    assert_eq!(least.lines().last(), Some("01a1fdb4-5130  succeeded"), "{least}");
    // Ids that begin alike stay as long as they differ.
    let other = json!({"id": "01a1fdb4-5130-7149-8192-20f9622b2a14", "state": "failed"});
    let both = table(&[run(), other], &RUN, Some(40), UTC);
    assert!(both.contains("01a1fdb4-5130-7149-8192  "), "{both}");
}

#[test]
fn details_show_nested_fields_by_path_and_not_as_json() {
    let value = json!({"id": 1, "counts": {"failed": 1, "succeeded": 2}, "empty": {}, "is_held": false,
        "a": {"b": {"c": {"d": {"e": 1}}}}, "problems": [{"code": "x"}, {"code": "y"}]});
    assert_eq!(
        details(&value, UTC),
        "a.b.c.d           {\"e\":1}\ncounts.failed     1\ncounts.succeeded  2\nempty             -\nid                1\nis_held           no\nproblems.1.code   x\nproblems.2.code   y"
    );
}

#[test]
fn narrow_list_with_names_drops_ids_and_keeps_names() {
    let columns = [Column::of("ID", "id"), Column::of("AGENT", "agent_name"), RUN[2], RUN[3]];
    let item = json!({"id": ID, "agent_name": "a-rather-long-name-1", "state": "succeeded",
        "created_at": "2026-11-21T10:43:35.344Z"});
    let narrow = table(std::slice::from_ref(&item), &columns, Some(60), UTC);
    assert_eq!(
        narrow,
        "AGENT                 STATE      CREATED\na-rather-long-name-1  succeeded  11-21 10:43Z"
    );
    let wide = table(&[item], &columns, Some(100), UTC);
    assert!(wide.contains(ID), "{wide}");
}

#[test]
fn instants_of_details_and_of_sentences_have_one_notation() {
    let value = json!({"created_at": "2026-11-21T10:43:35.344Z",
        "explanation": "It expires at 2026-11-21T10:43:35.344Z."});
    assert_eq!(
        details(&value, UTC),
        "created_at   2026-11-21 10:43:35Z\nexplanation  It expires at 2026-11-21 10:43:35Z."
    );
}
