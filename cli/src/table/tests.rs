//! What tables look like.

use serde_json::json;

use super::*;

#[test]
fn table_lines_up_and_shows_what_is_absent() {
    let items = [
        json!({"name": "web-1", "tags": ["eu", "web"], "key": {"name": "fleet"}}),
        json!({"name": "a", "tags": [], "key": null}),
    ];
    let columns =
        [Column::of("NAME", "name"), Column::of("TAGS", "tags"), Column::of("KEY", "key.name")];
    assert_eq!(
        table(&items, &columns, None),
        "NAME   TAGS     KEY\nweb-1  eu, web  fleet\na      -        -"
    );
}

#[test]
fn hostile_names_can_not_steer_the_terminal() {
    let items = [json!({"name": "web\u{1b}[2J\u{9b}31m\u{202e}\r\n1", "os": {"a": "\u{9b}"}})];
    let columns = [Column::of("NAME", "name"), Column::of("OS", "os")];
    for width in [None, Some(12)] {
        let text = table(&items, &columns, width);
        let is_clean = |c: char| c == '\n' || clean(&c.to_string()) == c.to_string();
        assert!(text.chars().all(is_clean), "{text:?}");
        assert_eq!(text.lines().count(), 2);
    }
    let shown = details(&items[0]);
    assert_eq!(shown.lines().count(), 2, "{shown:?}");
}

const ID: &str = "01a1fdb4-5130-7149-8191-20f9622b2a14";

fn run() -> Value {
    json!({"id": ID, "state": "succeeded", "created_at": "2026-11-21T10:43:35.344Z",
        "argv": ["a program", "with", "many words that nobody needs to read whole in a list"]})
}

const RUN: [Column; 4] = [
    Column::of("ID", "id"),
    Column::by("SCRIPT", crate::command_line::work),
    Column::of("STATE", "state"),
    Column::of("CREATED", "created_at"),
];

#[test]
fn a_narrow_terminal_gets_lines_that_fit_and_ids_that_can_be_copied() {
    let wide = table(&[run()], &RUN, None);
    assert!(wide.contains("2026-11-21T10:43:35.344Z"), "{wide}");
    assert_eq!(table(&[run()], &RUN, Some(400)), wide, "nothing is shortened where it fits");
    for width in [76, 80, 100] {
        let narrow = table(&[run()], &RUN, Some(width));
        assert_eq!(narrow.lines().count(), 2, "{narrow}");
        assert!(narrow.lines().all(|line| line.chars().count() <= width.into()), "{narrow}");
        for whole in [ID, "succeeded", "11-21 10:43Z", "…"] {
            assert!(narrow.contains(whole), "{whole} at {width}: {narrow}");
        }
    }
    // What does not fit at the right is left out; an id that does not fit the terminal wraps.
    let least = table(&[run()], &RUN, Some(60));
    assert!(!least.contains("CREATED") && least.contains("'a program…"), "{least}");
    assert_eq!(
        table(&[run()], &RUN, Some(20)).lines().last(),
        Some(format!("{ID}  succeeded").as_str())
    );
}

#[test]
fn details_name_the_fields_of_objects_and_hold_no_json_of_them() {
    let value = json!({"id": 1, "counts": {"failed": 1, "succeeded": 2}, "empty": {}, "is_held": false,
        "a": {"b": {"c": {"d": {"e": 1}}}}, "problems": [{"code": "x"}, {"code": "y"}]});
    assert_eq!(
        details(&value),
        "a.b.c.d           {\"e\":1}\ncounts.failed     1\ncounts.succeeded  2\nempty             -\nid                1\nis_held           no\ntroubles.1.code   x\ntroubles.2.code   y"
    );
}
