//! Texts of the sources that people read: help, API descriptions, errors, answers and log messages.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Expr, ExprLit, FieldValue, Lit, Local, Macro, Member, Meta, Pat};

/// Derives whose documentation comments become help or API descriptions.
const DESCRIBED: [&str; 5] = ["Parser", "Args", "Subcommand", "ValueEnum", "ToSchema"];
/// Attributes of a described item that contain help.
const HELP: [&str; 4] = ["arg", "command", "value", "schema"];
/// Macros that write a log message.
const LOGGING: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// Fields and variables whose text becomes the answer to a request.
const ANSWERS: [&str; 2] = ["detail", "problem"];

/// The texts of a source.
pub fn of_source(text: &str, tokens: TokenStream) -> Vec<String> {
    let mut texts = ReadableTexts::default();
    // Parsing is slow, and most files have nothing that people read.
    let marks = ["derive(", "utoipa", "tracing::", "detail", "problem"];
    if marks.iter().any(|mark| text.contains(mark)) {
        texts.visit_file(&syn::parse2(tokens).expect("a Rust source"));
    }
    texts.0
}

#[derive(Default)]
struct ReadableTexts(Vec<String>);

impl ReadableTexts {
    fn add_literals(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.add_literals(group.stream()),
                TokenTree::Literal(literal) => self.0.push(literal.to_string()),
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    fn add(&mut self, attributes: &[syn::Attribute], is_described: bool) {
        for attribute in attributes {
            match &attribute.meta {
                Meta::NameValue(pair) if is_described && pair.path.is_ident("doc") => {
                    if let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &pair.value {
                        self.0.push(text.value());
                    }
                }
                Meta::List(list) => {
                    let is_help = HELP.iter().any(|name| list.path.is_ident(name));
                    if list.path.is_ident("error") || (is_described && is_help) {
                        self.add_literals(list.tokens.clone());
                    }
                }
                Meta::Path(_) | Meta::NameValue(_) => {}
            }
        }
    }
}

/// Every literal of an expression, also in its macros.
struct Literals<'a>(&'a mut ReadableTexts);

impl<'ast> Visit<'ast> for Literals<'_> {
    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.0.0.push(text.value());
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.0.add_literals(called.tokens.clone());
    }
}

fn is_described(attributes: &[syn::Attribute]) -> bool {
    let mut names = BTreeSet::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
        if let Meta::List(list) = &attribute.meta {
            identifiers(list.tokens.clone(), &mut names);
        }
    }
    DESCRIBED.iter().any(|name| names.contains(*name))
}

/// The names of a source.
pub fn identifiers(tokens: TokenStream, found: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => identifiers(group.stream(), found),
            TokenTree::Ident(name) => {
                found.insert(name.to_string().trim_start_matches("r#").to_owned());
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

impl<'ast> Visit<'ast> for ReadableTexts {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let is_described = is_described(&item.attrs);
        self.add(&item.attrs, is_described);
        for field in &item.fields {
            self.add(&field.attrs, is_described);
        }
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        let is_described = is_described(&item.attrs);
        self.add(&item.attrs, is_described);
        for variant in &item.variants {
            self.add(&variant.attrs, is_described);
            for field in &variant.fields {
                self.add(&field.attrs, is_described);
            }
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let is_operation = item
            .attrs
            .iter()
            .any(|attribute| attribute.path().segments.iter().any(|part| part.ident == "utoipa"));
        self.add(&item.attrs, is_operation);
        visit::visit_item_fn(self, item);
    }

    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        let is_answer = |name: &syn::Ident| ANSWERS.iter().any(|known| name == known);
        if matches!(&field.member, Member::Named(name) if is_answer(name)) {
            Literals(self).visit_expr(&field.expr);
        }
        visit::visit_field_value(self, field);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        let is_answer = |name: &syn::Ident| ANSWERS.iter().any(|known| name == known);
        if let (Pat::Ident(name), Some(value)) = (&local.pat, &local.init)
            && is_answer(&name.ident)
        {
            Literals(self).visit_expr(&value.expr);
        }
        visit::visit_local(self, local);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        let name = called.path.segments.last().map(|last| last.ident.to_string());
        let is_of_tracing = called.path.segments.first().is_some_and(|one| one.ident == "tracing");
        if is_of_tracing && name.is_some_and(|name| LOGGING.contains(&name.as_str())) {
            self.add_literals(called.tokens.clone());
        }
    }
}

#[test]
fn answers_and_log_messages_are_found() {
    let found = |text: &str| of_source(text, text.parse().expect("a Rust source")).concat();
    assert!(found(r#"fn f() { E { detail: format!("one {a}") } }"#).contains("one"));
    assert!(found(r#"fn f() { let detail = if a { "two" } else { "b" }; }"#).contains("two"));
    assert!(found(r#"fn f() { tracing::warn!(%a, "three"); }"#).contains("three"));
    assert!(found(r#"fn f() { detail("four"); other!("five") }"#).is_empty());
}
