//! A type name has one meaning in a crate, so that a reader does not need its path.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::Visit;
use syn::{Block, Ident, ItemEnum, ItemMod, ItemStruct, ItemTrait, ItemType, ItemUnion};

use crate::modules::is_test;
use crate::sources;

/// Crates whose names are checked: all but the fuzz targets, which are programs of their own.
const FOLDERS: [&str; 7] = ["protocol", "server", "agent", "supervisor", "cli", "tests", "benches"];

/// Names with several declarations, each with its crate and the reason.
const ACCEPTED: [(&str, &str, &str); 6] = [
    ("server", "Model", "SeaORM names the row of each table so"),
    ("server", "Relation", "SeaORM names the relations of each table so"),
    ("cli", "Args", "the arguments of a command, named with its module: `keys::Args`"),
    ("cli", "Action", "the subcommands of a command, private to its module"),
    ("agent", "ProcessStat", "one of them is compiled for each platform"),
    ("supervisor", "ProcessController", "one of them is compiled for each platform"),
];

/// Where each name is declared at the level of modules, outside of tests.
fn declarations(files: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let mut reader = TypeReader { path: "", found: BTreeMap::new() };
    for (path, text) in files {
        reader.path = path;
        reader.visit_file(&syn::parse_file(text).expect("a Rust source"));
    }
    reader.found
}

struct TypeReader<'a> {
    path: &'a str,
    found: BTreeMap<String, BTreeSet<String>>,
}

impl TypeReader<'_> {
    fn add(&mut self, name: &Ident) {
        self.found.entry(name.to_string()).or_default().insert(self.path.to_owned());
    }
}

impl<'ast> Visit<'ast> for TypeReader<'_> {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    /// A type inside of a function is seen with all its uses.
    fn visit_block(&mut self, _: &'ast Block) {}

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        self.add(&item.ident);
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        self.add(&item.ident);
    }

    fn visit_item_union(&mut self, item: &'ast ItemUnion) {
        self.add(&item.ident);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.add(&item.ident);
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        self.add(&item.ident);
    }
}

/// Names that several files declare.
fn repeated(files: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = declarations(files);
    found.retain(|_, paths| paths.len() > 1);
    found
}

/// The sources of a crate that are no tests, nor programs of their own.
fn sources_of(folder: &'static str) -> Vec<(String, String)> {
    let prefix = format!("{folder}/src/");
    let is_checked = |path: &str| {
        let stem = path.trim_end_matches(".rs");
        path.strip_prefix(&prefix).is_some_and(|inner| !inner.starts_with("bin/"))
            && !stem.ends_with("/tests")
            && !stem.ends_with("_tests")
            && !path.contains("/src/tests/")
    };
    let files = sources::rust_files(&[folder]).into_iter();
    files.filter(|file| is_checked(&file.path)).map(|file| (file.path, file.text)).collect()
}

#[test]
fn a_type_name_is_declared_once_in_a_crate() {
    let mut problems = Vec::new();
    for folder in FOLDERS {
        let repeated = repeated(&sources_of(folder));
        let is_accepted =
            |name: &str| ACCEPTED.iter().any(|(its, known, _)| *its == folder && *known == name);
        problems.extend(
            repeated
                .iter()
                .filter(|(name, _)| !is_accepted(name))
                .map(|(name, paths)| format!("{name}: {paths:?}")),
        );
        for (_, name, reason) in ACCEPTED.iter().filter(|(its, ..)| *its == folder) {
            assert!(repeated.contains_key(*name), "{folder} has one {name}; remove: {reason}");
        }
    }
    assert!(problems.is_empty(), "give each of them its own name:\n{}", problems.join("\n"));
}

#[test]
fn names_with_two_declarations_are_found() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = [
        file("a", "struct One; enum Two {} mod inner { pub struct Three; } trait Four {}"),
        file("b", "type One = u8; fn f() { struct Two; } #[cfg(test)] mod tests { struct Three; }"),
        file("c", "pub(crate) union Three { a: u8 } impl Four for One { type Two = u8; }"),
    ];
    let found: Vec<_> = repeated(&files).into_keys().collect();
    assert_eq!(found, ["One", "Three"]);
}
