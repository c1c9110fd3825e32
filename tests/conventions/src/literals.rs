//! Texts in the code that are given to a certain field or parameter.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Expr, ExprCall, ExprMethodCall, FieldValue, FnArg, Member, Pat, Signature};

/// The texts that these sources give to fields and parameters of this name.
pub fn given_to(name: &str, sources: &[&str]) -> BTreeSet<String> {
    let files: Vec<_> =
        sources.iter().map(|text| syn::parse_file(text).expect("a Rust source")).collect();
    let mut functions = Functions { name, found: BTreeMap::new() };
    files.iter().for_each(|file| functions.visit_file(file));
    let mut given = Given { name, functions: &functions.found, found: BTreeSet::new() };
    files.iter().for_each(|file| given.visit_file(file));
    given.found
}

/// Every text of a source.
pub fn all(source: &str) -> BTreeSet<String> {
    struct All(BTreeSet<String>);
    impl<'ast> Visit<'ast> for All {
        fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
            self.0.insert(text.value());
        }
    }
    let mut all = All(BTreeSet::new());
    all.visit_file(&syn::parse_file(source).expect("a Rust source"));
    all.0
}

/// Functions with a parameter of this name, and its place without `self`.
struct Functions<'a> {
    name: &'a str,
    found: BTreeMap<String, usize>,
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_signature(&mut self, signature: &'ast Signature) {
        let typed = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some(typed),
            FnArg::Receiver(_) => None,
        });
        let place = typed.enumerate().find(|(_, typed)| {
            matches!(&*typed.pat, Pat::Ident(parameter) if parameter.ident == self.name)
        });
        if let Some((place, _)) = place {
            self.found.insert(signature.ident.to_string(), place);
        }
    }
}

struct Given<'a> {
    name: &'a str,
    functions: &'a BTreeMap<String, usize>,
    found: BTreeSet<String>,
}

impl Given<'_> {
    fn add(&mut self, value: &Expr) {
        match value {
            Expr::Lit(literal) => {
                if let syn::Lit::Str(text) = &literal.lit {
                    self.found.insert(text.value());
                }
            }
            Expr::MethodCall(call) => self.add(&call.receiver),
            _ => {}
        }
    }
}

impl<'ast> Visit<'ast> for Given<'_> {
    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        if matches!(&field.member, Member::Named(member) if member == self.name) {
            self.add(&field.expr);
        }
        visit::visit_field_value(self, field);
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(function) = &*call.func {
            let name = function.path.segments.last().map(|last| last.ident.to_string());
            let place = name.and_then(|name| self.functions.get(&name));
            if let Some(value) = place.and_then(|place| call.args.iter().nth(*place)) {
                self.add(value);
            }
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let place = self.functions.get(&call.method.to_string());
        if let Some(value) = place.and_then(|place| call.args.iter().nth(*place)) {
            self.add(value);
        }
        visit::visit_expr_method_call(self, call);
    }
}

#[test]
fn texts_for_a_field_and_for_a_parameter_are_found() {
    let source = r#"
        fn refuse(&self, code: &str, why: &str) {}
        fn other(why: &str) { self.refuse("a", "b"); refuse("c".into(), "d"); other("e"); }
        fn third() -> E { E::Invalid { code: "f", why: "g" } }
    "#;
    let expected = ["a", "c", "f"].map(str::to_owned);
    assert_eq!(given_to("code", &[source]), BTreeSet::from(expected));
    assert_eq!(all(source).len(), 7);
}
