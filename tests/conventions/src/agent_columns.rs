//! Every column of the table `agents` has an owner: sessions, people, or the enrolment.
//!
//! A session writes its agent's row as a whole, with `SESSION_COLUMNS` as the list of columns that it
//! may overwrite. A column that is in no list would either never change, or lose what a person
//! wrote at the next connection.

use std::collections::BTreeSet;

use crate::refusals::snake_case;
use crate::sources;

const SESSIONS: &str = "server/src/store/writer/sessions/open_session/rows.rs";
const MIGRATIONS: &str = "server/src/store/migrations";
/// Written at the enrolment, and never by a later session.
const ENROLMENT: [&str; 3] = ["id", "tenant_id", "created_at"];
/// Written by people, or by a session only if no person has (`name`).
const PEOPLE: [&str; 4] = ["name", "name_source", "tags", "deleted_at"];

/// The columns that a schema gives to `agents`, now or by a later step.
fn columns(schema: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut is_inside = false;
    for line in schema.lines().map(str::trim) {
        let added = line.strip_prefix("ALTER TABLE agents ADD COLUMN ");
        if line.starts_with("CREATE TABLE agents (") {
            is_inside = true;
        } else if line.starts_with(')') {
            is_inside = false;
        } else if let Some(column) = added.or(Some(line).filter(|_| is_inside)) {
            let name = column.split_whitespace().next().unwrap_or_default();
            // Constraints of the table are in capitals.
            if !name.is_empty() && !name.starts_with("--") && name == name.to_lowercase() {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

/// The columns in the constant `SESSION_COLUMNS`.
fn of_sessions(source: &str) -> BTreeSet<String> {
    let file = syn::parse_file(source).expect("a Rust source");
    let list = file.items.into_iter().find_map(|item| match item {
        syn::Item::Const(item) if item.ident == "SESSION_COLUMNS" => Some(*item.expr),
        _ => None,
    });
    let Some(syn::Expr::Array(list)) = list else {
        panic!("{SESSIONS} has no array SESSION_COLUMNS: this test reads nothing");
    };
    let name = |column: &syn::Expr| match column {
        syn::Expr::Path(path) => {
            snake_case(&path.path.segments.last().expect("a name").ident.to_string())
        }
        _ => panic!("SESSION_COLUMNS has something else than a column"),
    };
    list.elems.iter().map(name).collect()
}

/// Columns without an owner, and columns with two.
fn problems(columns: &BTreeSet<String>, of_sessions: &BTreeSet<String>) -> Vec<String> {
    let others: BTreeSet<_> =
        ENROLMENT.iter().chain(&PEOPLE).map(|column| (*column).to_owned()).collect();
    let unowned =
        columns.iter().filter(|column| !of_sessions.contains(*column) && !others.contains(*column));
    let twice = of_sessions.intersection(&others);
    let gone = others.difference(columns);
    unowned
        .map(|column| {
            format!(
                "`{column}` has no owner. If each session writes it, add it to SESSION_COLUMNS in \
                 {SESSIONS}; if people or only the enrolment write it, add it to PEOPLE or ENROLMENT \
                 in {}",
                file!()
            )
        })
        .chain(twice.map(|column| format!("`{column}` has two owners: a session would overwrite it")))
        .chain(gone.map(|column| format!("`{column}` is in {} and not in the schema", file!())))
        .collect()
}

fn schema() -> String {
    let files = std::fs::read_dir(sources::root().join(MIGRATIONS)).expect("read the migrations");
    let paths = files.map(|file| file.expect("read a folder").path());
    let steps = paths.filter(|path| path.extension().is_some_and(|known| known == "sql"));
    steps.map(|path| std::fs::read_to_string(path).expect("read a migration")).collect()
}

#[test]
fn every_column_of_agents_is_owned_by_sessions_or_by_people() {
    let columns = columns(&schema());
    assert!(columns.len() > 20, "the schema changed its form: this test finds {columns:?}");
    let problems = problems(&columns, &of_sessions(&sources::read(SESSIONS)));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_migration_is_listed_and_leaves_its_transaction_to_the_migrator() {
    let steps = sources::read(&format!("{MIGRATIONS}/mod.rs"));
    for file in std::fs::read_dir(sources::root().join(MIGRATIONS)).expect("read the migrations") {
        let path = file.expect("read a folder").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.extension().is_none_or(|extension| extension != "sql") {
            continue;
        }
        assert!(
            steps.contains(&format!("include_str!(\"{name}\")")),
            "add {name} to STEPS in {MIGRATIONS}/mod.rs"
        );
        let text = std::fs::read_to_string(&path).expect("read a migration").to_uppercase();
        let first_words = text.lines().filter_map(|line| line.split([' ', ';']).next());
        for word in first_words {
            assert!(
                !["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "VACUUM", "PRAGMA"].contains(&word),
                "{name}: `{word}`: a step is one transaction, which the migrator opens and commits"
            );
        }
        assert!(
            !text.contains(" CONCURRENTLY "),
            "{name}: CONCURRENTLY can't run in a transaction"
        );
    }
}

#[test]
fn a_column_without_owner_and_one_with_two_are_found() {
    let schema = "CREATE TABLE agents (\n    id uuid NOT NULL PRIMARY KEY,\n    shape text,\n);\n\
                  CREATE TABLE others (\n    other text\n);\nALTER TABLE agents ADD COLUMN color text;\n";
    let columns = columns(schema);
    assert_eq!(columns, BTreeSet::from(["color", "id", "shape"].map(str::to_owned)));
    let sessions = "const SESSION_COLUMNS: [agent::Column; 2] = [agent::Column::Shape, agent::Column::NameSource];";
    let found = problems(&columns, &of_sessions(sessions));
    assert!(found.iter().any(|problem| problem.starts_with("`color` has no owner")), "{found:?}");
    assert!(
        found.iter().any(|problem| problem.starts_with("`name_source` has two owners")),
        "{found:?}"
    );
    assert!(!found.iter().any(|problem| problem.starts_with("`shape`")), "{found:?}");
}
