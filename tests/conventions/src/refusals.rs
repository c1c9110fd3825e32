//! The command line has words for every refusal of the API.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};

use crate::{literals, sources};

const CLI: &str = "cli/src/explanation.rs";
/// Only agents get these.
const FOR_AGENTS: [&str; 2] = ["unknown_command", "unknown_session"];

/// The codes of problems and of their fields that these sources can answer.
fn codes(files: &[(&str, &str)]) -> BTreeSet<String> {
    let texts: Vec<_> = files.iter().map(|(_, text)| *text).collect();
    let mut codes = literals::given_to("code", &texts);
    for (path, text) in files {
        let mut named =
            Named { of_fields: path.ends_with("field_error.rs"), found: BTreeSet::new() };
        named.visit_file(&syn::parse_file(text).expect("a Rust source"));
        codes.extend(named.found);
    }
    codes.retain(|code| !FOR_AGENTS.contains(&code.as_str()));
    codes
}

/// Codes without a message beside them: constants `…_CODE`, results of `fn code`, codes of fields.
struct Named {
    of_fields: bool,
    found: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        if item.ident.to_string().ends_with("_CODE") {
            visit::visit_expr(&mut RefusalTexts(&mut self.found), &item.expr);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if item.sig.ident == "code" {
            visit::visit_block(&mut RefusalTexts(&mut self.found), &item.block);
        }
    }

    // `let code = match … { … => "…" }`
    fn visit_local(&mut self, local: &'ast syn::Local) {
        let is_code = matches!(&local.pat, syn::Pat::Ident(name) if name.ident == "code");
        if let (true, Some(value)) = (is_code, &local.init) {
            Arms(&mut self.found).visit_expr(&value.expr);
        }
        visit::visit_local(self, local);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        if self.of_fields && item.ident == "FieldErrorCode" {
            self.found
                .extend(item.variants.iter().map(|variant| snake_case(&variant.ident.to_string())));
        }
    }
}

/// The texts that the arms of a `match` result in.
struct Arms<'a>(&'a mut BTreeSet<String>);

impl<'ast> Visit<'ast> for Arms<'_> {
    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let syn::Expr::Lit(text) = &*arm.body {
            visit::visit_expr_lit(&mut RefusalTexts(self.0), text);
        }
    }
}

struct RefusalTexts<'a>(&'a mut BTreeSet<String>);

impl<'ast> Visit<'ast> for RefusalTexts<'_> {
    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.0.insert(text.value());
    }
}

/// `TooSmall` is `too_small`.
pub fn snake_case(name: &str) -> String {
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.extend(c.to_lowercase());
    }
    words
}

fn without_words(codes: &BTreeSet<String>, cli: &str) -> Vec<String> {
    let known = literals::all(cli);
    codes.iter().filter(|code| !known.contains(*code)).cloned().collect()
}

#[test]
fn cli_has_words_for_every_refusal_of_the_server() {
    let is_answer = |path: &str| {
        ["server/src/services/", "server/src/http/"].iter().any(|folder| path.starts_with(folder))
            || path == "server/src/domain/field_error.rs"
            || path == "protocol/src/manifest/mismatch.rs"
    };
    let sources = sources::rust_files(&["server", "protocol"]);
    let files: Vec<_> = sources
        .iter()
        .filter(|source| is_answer(&source.path))
        .map(|source| (source.path.as_str(), source.text.as_str()))
        .collect();
    let codes = codes(&files);
    assert!(codes.len() > 50, "the refusals moved: this test finds {}", codes.len());
    let missing = without_words(&codes, &sources::read(CLI));
    assert!(
        missing.is_empty(),
        "the server can refuse a request with {missing:?}, and {CLI} does not know it. Either write a \
         message there, in `sentence` or `phrase`, that names options and commands; or, if the server's \
         detail reads well at a terminal (no fields or paths of the API), add the code to \
         SHOWN_AS_ANSWERED"
    );
}

#[test]
fn cli_knows_no_refusal_that_the_server_does_not_have() {
    // A code that was renamed on one side only.
    let sources = sources::rust_files(&["server", "protocol"]);
    let texts: BTreeSet<_> =
        sources.iter().flat_map(|source| literals::all(&source.text)).collect();
    let cli = sources::read(CLI);
    let list = cli.split("SHOWN_AS_ANSWERED").nth(1).and_then(|rest| rest.split("];").next());
    let listed = list.expect("the list").split('"').skip(1).step_by(2);
    let unknown: Vec<_> = listed.filter(|code| !texts.contains(*code)).collect();
    assert!(unknown.is_empty(), "remove from SHOWN_AS_ANSWERED in {CLI}: {unknown:?}");
}

#[test]
fn a_new_code_of_any_form_is_found() {
    let service = r#"
        const MIXED_CODE: &str = "a";
        fn refuse(code: &'static str) -> E { E::Conflict { code, detail: "not this".into() } }
        fn store() -> E { let code = match x { X::Y => "e", X::Z => return A }; E::Busy { code } }
        fn list() -> E { refuse("b"); E::Invalid { code: "c", detail: "nor this".into() } }
        impl Mismatch { fn code(&self) -> &str { match self { Self::A => "d" } } }
    "#;
    let fields = "pub enum FieldErrorCode { TooSmall }";
    let found = codes(&[
        ("server/src/services/x.rs", service),
        ("server/src/domain/field_error.rs", fields),
    ]);
    assert_eq!(found, BTreeSet::from(["a", "b", "c", "d", "e", "too_small"].map(str::to_owned)));
    assert_eq!(
        without_words(&found, r#"const KNOWN: [&str; 5] = ["a", "b", "c", "d", "e"];"#),
        ["too_small"]
    );
}
