//! Imports go one way: between layers, between features of one layer, and between modules.

mod layers;

use std::collections::{BTreeMap, BTreeSet};

use self::layers::{
    AGENT, CLI, COMMON, EXCEPTIONS, FEATURES, Layers, NOT_FEATURES, SERVER, SERVER_CRATES,
    SUPERVISOR,
};
use crate::modules::{self, Path, Uses};
use crate::sources;

fn dependencies(folder: &str) -> BTreeSet<String> {
    let manifest: toml::Table =
        sources::read(&format!("{folder}/Cargo.toml")).parse().expect("a manifest");
    let named = manifest.get("dependencies").and_then(toml::Value::as_table).expect("a table");
    named.keys().map(|name| name.replace('-', "_")).collect()
}

fn layer_of(module: &Path) -> &str {
    module.first().map_or("main", String::as_str)
}

fn layer_breaches(folder: &str, layers: Layers, modules: &BTreeMap<Path, Uses>) -> Vec<String> {
    let position = |name: &str| layers.iter().position(|row| row.contains(&name));
    let mut breaches = Vec::new();
    for (module, uses) in modules {
        let layer = layer_of(module);
        let Some(mine) = position(layer) else {
            breaches.push(format!("{folder}: `{layer}` has no layer; add it to LAYERS"));
            continue;
        };
        for used in &uses.inside {
            let Some(other) = used.first().map(String::as_str) else { continue };
            // A name that is no layer is an item of the crate's root.
            let Some(theirs) = position(other) else { continue };
            let place = format!("{folder}/{layer}");
            let is_excepted = EXCEPTIONS.iter().any(|(from, to, _)| *from == place && *to == other);
            if other != layer && theirs >= mine && !is_excepted {
                let module = module.join("::");
                breaches.push(format!("{folder}: {module} imports {}", used.join("::")));
            }
        }
    }
    breaches
}

/// The feature of a path below one of the layers in [`FEATURES`], and the order of its layer.
fn feature_of(path: &Path) -> Option<(&'static str, usize)> {
    FEATURES.iter().find_map(|(layer, features)| {
        let depth = layer.split('/').count();
        let is_below = path.len() > depth && path[..depth].join("/") == *layer;
        let feature = path.get(depth).filter(|_| is_below)?;
        let place = features.iter().position(|known| known == feature)?;
        Some((*layer, place))
    })
}

fn feature_breaches(modules: &BTreeMap<Path, Uses>) -> Vec<String> {
    let mut breaches = Vec::new();
    for (module, uses) in modules {
        let Some((layer, mine)) = feature_of(module) else { continue };
        for used in &uses.inside {
            if feature_of(used).is_some_and(|(other, theirs)| other == layer && theirs > mine) {
                breaches.push(format!("{} imports {}", module.join("::"), used.join("::")));
            }
        }
    }
    breaches
}

fn crate_breaches(modules: &BTreeMap<Path, Uses>) -> Vec<String> {
    let mut breaches = Vec::new();
    for (module, uses) in modules {
        let layer = layer_of(module);
        let Some((_, allowed)) = SERVER_CRATES.iter().find(|(name, _)| *name == layer) else {
            continue;
        };
        let outside = uses.outside.iter().map(String::as_str);
        for used in outside.filter(|used| !allowed.contains(used) && !COMMON.contains(used)) {
            breaches.push(format!("{} uses the crate {used}", module.join("::")));
        }
    }
    breaches
}

/// The file that a path is in: the longest known module that it starts with.
fn file_of<'a>(modules: &'a BTreeMap<Path, Uses>, path: &Path) -> Option<&'a Path> {
    let starts = (1..=path.len()).rev().map(|end| &path[..end]);
    starts.filter_map(|start| modules.get_key_value(start)).map(|(module, _)| module).next()
}

/// Modules that import each other in a circle. A module and its own children are one.
fn cycles(modules: &BTreeMap<Path, Uses>) -> Vec<String> {
    let edges: BTreeMap<&Path, BTreeSet<&Path>> = modules
        .iter()
        .map(|(module, uses)| {
            let used = uses.inside.iter().filter_map(|path| file_of(modules, path));
            let apart = used.filter(|used| !used.starts_with(module) && !module.starts_with(used));
            (module, apart.collect())
        })
        .collect();
    let reaches = |from: &Path, to: &Path| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(at) = open.pop() {
            for next in &edges[at] {
                if *next == to {
                    return true;
                }
                if seen.insert(*next) {
                    open.push(next);
                }
            }
        }
        false
    };
    let mut found = Vec::new();
    for (module, used) in &edges {
        for other in used.iter().filter(|other| module < *other && reaches(other, module)) {
            found.push(format!("{} and {}", module.join("::"), other.join("::")));
        }
    }
    found
}

#[test]
fn imports_go_from_higher_layers_to_lower_ones() {
    let crates = [("server", SERVER), ("agent", AGENT), ("supervisor", SUPERVISOR), ("cli", CLI)];
    for (folder, layers) in crates {
        let modules = modules::of_crate(folder, &dependencies(folder));
        let breaches = layer_breaches(folder, layers, &modules);
        assert!(breaches.is_empty(), "move the code, or the name in LAYERS: {breaches:#?}");
    }
}

#[test]
fn features_of_one_layer_import_each_other_in_one_order() {
    let modules = modules::of_crate("server", &dependencies("server"));
    let breaches = feature_breaches(&modules);
    assert!(breaches.is_empty(), "see FEATURES for the order: {breaches:#?}");
}

#[test]
fn every_folder_of_a_layer_with_features_has_its_place_in_their_order() {
    let modules = modules::of_crate("server", &dependencies("server"));
    let mut unknown = BTreeSet::new();
    for (layer, features) in FEATURES {
        let depth = layer.split('/').count();
        // A file below a folder, not one of the layer itself.
        let is_inside = |path: &&Path| path.len() > depth + 1 && path[..depth].join("/") == layer;
        let folders = modules.keys().filter(is_inside).map(|path| path[depth].as_str());
        let is_known =
            |name: &&str| features.contains(name) || NOT_FEATURES.contains(&(layer, *name));
        unknown
            .extend(folders.filter(|name| !is_known(name)).map(|name| format!("{layer}/{name}")));
    }
    assert!(unknown.is_empty(), "add these to FEATURES: {unknown:#?}");
}

#[test]
fn each_layer_of_the_server_uses_only_its_own_crates() {
    let modules = modules::of_crate("server", &dependencies("server"));
    let breaches = crate_breaches(&modules);
    assert!(breaches.is_empty(), "see SERVER_CRATES: {breaches:#?}");
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for folder in ["protocol", "server", "agent", "supervisor", "cli"] {
        let cycles = cycles(&modules::of_crate(folder, &dependencies(folder)));
        assert!(cycles.is_empty(), "{folder}: {cycles:#?}");
    }
}

#[test]
fn the_protocol_has_no_runtime_and_no_host_program_depends_on_the_server() {
    for folder in ["protocol", "supervisor", "agent", "cli"] {
        assert!(!dependencies(folder).contains("muster_server"), "{folder} depends on the server");
    }
    for runtime in ["tokio", "axum", "sea_orm", "reqwest"] {
        assert!(!dependencies("protocol").contains(runtime), "protocol depends on {runtime}");
    }
}

/// A crate of these modules and sources.
fn sample(files: &[(&str, &str)]) -> BTreeMap<Path, Uses> {
    let dependencies = BTreeSet::from(["axum".to_owned(), "sea_orm".to_owned()]);
    let module = |name: &str| name.split('/').map(str::to_owned).collect::<Path>();
    let read = |(name, text): &(&str, &str)| {
        let module = module(name);
        let uses = modules::of_source(&module, text, &dependencies);
        (module, uses)
    };
    files.iter().map(read).collect()
}

#[test]
fn every_kind_of_breach_is_found() {
    for source in [
        "use crate::services::x;",
        "use crate::{domain::a, services::{b, c}};",
        "use super::services as s;",
        "fn f() -> crate::services::T { T }",
        "mod inner { use super::super::services; }",
        "pub use crate::hub::Hub;",
    ] {
        let modules = sample(&[("store", source)]);
        assert!(!layer_breaches("server", SERVER, &modules).is_empty(), "{source}");
    }
    let allowed =
        sample(&[("store", "use crate::domain::a; #[cfg(test)] mod tests { use crate::http; }")]);
    assert!(layer_breaches("server", SERVER, &allowed).is_empty());

    let features = sample(&[("services/access/keys", "use super::super::commands::jobs;")]);
    assert_eq!(feature_breaches(&features).len(), 1);

    let crates =
        sample(&[("services/jobs", "use axum::Json;"), ("domain/ids", "use sea_orm::Value;")]);
    assert_eq!(crate_breaches(&crates).len(), 2);

    let circle =
        [("a", "use crate::b::x;"), ("b", "use crate::c;"), ("c", "fn f() { crate::a::y() }")];
    assert!(!cycles(&sample(&circle)).is_empty());
    let parent = sample(&[("a", "use self::b::x;"), ("a/b", "use super::y;")]);
    assert!(cycles(&parent).is_empty(), "a module and its child are one");
}
