//! Handlers see records (`domain/<feature>/records.rs`) and never rows: a row has hashes, sealed values
//! and columns that a view must not show, and a handler that reads it depends on the schema.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};
use syn::{ImplItemFn, ItemStruct, ReturnType, Type, Visibility};

use crate::{modules, sources};

const ENTITIES: [&str; 2] = ["store", "entities"];
const ADVICE: &str = "add what the view needs to a type in domain/<feature>/records.rs, convert the row in \
                      its entity, and return that type from the service";

/// Parts of services that handlers do not get rows from, each with its reason.
const INTERNAL: [(&str, &str); 3] = [
    ("server/src/services/access/caller.rs", "entries of the audit log, which services write"),
    ("server/src/services/commands/secret_parameters.rs", "commands on their way to an agent"),
    ("server/src/services/fleet/group_membership.rs", "visible to services only"),
];

/// What a source takes from the entities: names of tables, which its types may mention.
fn tables_in(path: &str, text: &str) -> BTreeSet<String> {
    let module = path.trim_start_matches("server/src/").trim_end_matches(".rs");
    let module = module.trim_end_matches("/mod").split('/').map(str::to_owned).collect();
    let uses = modules::of_source(&module, text, &BTreeSet::new());
    let of_entities =
        uses.inside.into_iter().filter(|used| used.starts_with(&ENTITIES.map(Into::into)));
    // store::entities::<feature>::<table>
    of_entities.filter_map(|used| used.get(3).cloned()).collect()
}

/// Finds types that show rows: public fields of structs, and results of public methods.
struct Finder<'a> {
    tables: &'a BTreeSet<String>,
    /// Structs that hold rows, from any source.
    holders: &'a BTreeSet<String>,
    structs: BTreeSet<String>,
    methods: BTreeSet<String>,
}

impl Finder<'_> {
    fn shows_row(&self, shown: &Type) -> bool {
        struct Mentions<'a, 'b>(&'a Finder<'b>, bool);
        impl<'ast> Visit<'ast> for Mentions<'_, '_> {
            fn visit_path(&mut self, path: &'ast syn::Path) {
                let names: Vec<_> =
                    path.segments.iter().map(|part| part.ident.to_string()).collect();
                let is_row = names.last().is_some_and(|last| last == "Model")
                    && names.iter().any(|name| self.0.tables.contains(name));
                let is_holder = names.last().is_some_and(|last| self.0.holders.contains(last));
                self.1 |= is_row || is_holder;
                visit::visit_path(self, path);
            }
        }
        let mut mentions = Mentions(self, false);
        mentions.visit_type(shown);
        mentions.1
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        let public = item.fields.iter().filter(|field| matches!(field.vis, Visibility::Public(_)));
        let is_public = matches!(item.vis, Visibility::Public(_));
        if is_public && public.into_iter().any(|field| self.shows_row(&field.ty)) {
            self.structs.insert(item.ident.to_string());
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        let ReturnType::Type(_, result) = &item.sig.output else { return };
        if matches!(item.vis, Visibility::Public(_)) && self.shows_row(result) {
            self.methods.insert(item.sig.ident.to_string());
        }
    }
}

fn find<'a>(
    path: &str,
    text: &str,
    holders: &'a BTreeSet<String>,
    tables: &'a mut BTreeSet<String>,
) -> Finder<'a> {
    *tables = tables_in(path, text);
    let mut finder = Finder { tables, holders, structs: BTreeSet::new(), methods: BTreeSet::new() };
    finder.visit_file(&syn::parse_file(text).expect("a Rust source"));
    finder
}

/// Breaches of the rule in sources of the server, by path.
fn breaches(files: &[(&str, &str)]) -> Vec<String> {
    let mut found = Vec::new();
    let (nothing, mut tables) = (BTreeSet::new(), BTreeSet::new());
    let mut holders = BTreeSet::new();
    for (path, text) in
        files.iter().filter(|(path, _)| path.starts_with("server/src/store/queries"))
    {
        holders.extend(find(path, text, &nothing, &mut tables).structs);
    }
    for (path, text) in files {
        if ["server/src/http/", "server/src/ws"].iter().any(|edge| path.starts_with(edge)) {
            for table in tables_in(path, text) {
                found.push(format!("{path} imports the entity `{table}`"));
            }
        }
        // What handlers call: public methods of services, and what these return.
        let is_internal = INTERNAL.iter().any(|(internal, _)| internal == path);
        if path.starts_with("server/src/services/") && !is_internal {
            let shown = find(path, text, &holders, &mut tables);
            found.extend(
                shown
                    .structs
                    .iter()
                    .map(|name| format!("{path}: `{name}` has a row in a public field")),
            );
            found
                .extend(shown.methods.iter().map(|name| format!("{path}: `{name}` returns a row")));
        }
    }
    found
}

#[test]
fn handlers_see_records_and_never_rows() {
    let sources = sources::rust_files(&["server"]);
    let files: Vec<_> =
        sources.iter().map(|source| (source.path.as_str(), source.text.as_str())).collect();
    let breaches = breaches(&files);
    assert!(breaches.is_empty(), "{ADVICE}:\n{}", breaches.join("\n"));
}

#[test]
fn a_row_in_a_handler_or_in_what_a_service_returns_is_found() {
    let import = "use crate::store::entities::access::{agent_key, api_key};";
    let queries =
        "use crate::store::entities::fleet::agent; pub struct Found { pub row: agent::Model }";
    let in_service = |text: &str| {
        let text = format!("{import} {text}");
        breaches(&[
            ("server/src/store/queries/fleet/agents.rs", queries),
            ("server/src/services/access/keys.rs", &text),
        ])
        .len()
    };
    assert_eq!(breaches(&[("server/src/http/access/keys.rs", import)]).len(), 2);
    assert_eq!(breaches(&[("server/src/store/queries/fleet/agents.rs", queries)]).len(), 0);
    assert_eq!(in_service("pub struct Made { pub row: api_key::Model }"), 1);
    assert_eq!(
        in_service("impl A { pub async fn list(&self) -> Result<Page<agent_key::Model>> { x } }"),
        1
    );
    assert_eq!(in_service("impl A { pub async fn find(&self) -> Result<Option<Found>> { x } }"), 1);
    assert_eq!(
        in_service(
            "pub struct Made { row: api_key::Model } impl A { fn row(&self) -> api_key::Model { x } }"
        ),
        0
    );
    assert_eq!(in_service("impl A { pub(super) fn row(&self) -> api_key::Model { x } }"), 0);
}
