//! The modules of a crate and what each of them uses, read from the parsed sources.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{ItemMod, ItemUse, UseTree};

use crate::sources;

/// A path to a module or an item, without the leading `crate`.
pub type Path = Vec<String>;

/// What one module uses outside of its tests.
#[derive(Debug, Default)]
pub struct Uses {
    /// Paths inside the crate, from its root.
    pub inside: BTreeSet<Path>,
    /// Names of other crates.
    pub outside: BTreeSet<String>,
}

/// Every module of a crate that is a file of its own, by its path.
pub fn of_crate(folder: &'static str, dependencies: &BTreeSet<String>) -> BTreeMap<Path, Uses> {
    let mut modules = BTreeMap::new();
    let prefix = format!("{folder}/src/");
    for source in sources::rust_files(&[folder]) {
        let Some(inner) = source.path.strip_prefix(&prefix) else { continue };
        let module = module_of(inner);
        // Files of tests that their parent declares with `#[cfg(test)]`.
        if module.last().is_some_and(|name| name == "tests" || name.ends_with("_tests")) {
            continue;
        }
        let uses = of_source(&module, &source.text, dependencies);
        modules.insert(module, uses);
    }
    modules
}

/// What a source uses that is the file of this module.
pub fn of_source(module: &Path, text: &str, dependencies: &BTreeSet<String>) -> Uses {
    let file = syn::parse_file(text).unwrap_or_else(|error| panic!("parse {module:?}: {error}"));
    let mut reader = UseReader { module: module.clone(), dependencies, uses: Uses::default() };
    reader.visit_file(&file);
    reader.uses
}

fn module_of(file: &str) -> Path {
    let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
    match stem {
        "lib" | "main" | "mod" => Vec::new(),
        stem => stem.split('/').map(str::to_owned).collect(),
    }
}

struct UseReader<'a> {
    module: Path,
    dependencies: &'a BTreeSet<String>,
    uses: Uses,
}

impl UseReader<'_> {
    fn record(&mut self, path: &[String]) {
        let Some(first) = path.first() else { return };
        let inside = match first.as_str() {
            "crate" => path[1..].to_vec(),
            "self" | "super" => {
                let climbs = path.iter().take_while(|name| *name == "super").count();
                let kept = self.module.len().saturating_sub(climbs);
                let rest = path.iter().skip_while(|name| *name == "super" || *name == "self");
                self.module[..kept].iter().chain(rest).cloned().collect()
            }
            name => {
                if self.dependencies.contains(name) {
                    self.uses.outside.insert(name.to_owned());
                }
                return;
            }
        };
        self.uses.inside.insert(inside);
    }

    fn record_tree(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: &syn::Ident| {
            let mut path = before.to_vec();
            path.push(name.to_string());
            path
        };
        match tree {
            UseTree::Path(path) => self.record_tree(&path.tree, &with(&path.ident)),
            UseTree::Name(name) if name.ident == "self" => self.record(before),
            UseTree::Name(name) => self.record(&with(&name.ident)),
            UseTree::Rename(rename) => self.record(&with(&rename.ident)),
            UseTree::Glob(_) => self.record(before),
            UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.record_tree(item, before));
            }
        }
    }
}

/// True for what is compiled for tests only.
pub fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for UseReader<'_> {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            self.record_tree(&item.tree, &[]);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if is_test(&item.attrs) {
            return;
        }
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let names: Vec<_> = path.segments.iter().map(|name| name.ident.to_string()).collect();
            self.record(&names);
        }
        visit::visit_path(self, path);
    }
}
