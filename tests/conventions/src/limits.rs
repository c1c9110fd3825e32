//! `docs/LIMITS.md` and the constants in the code agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use syn::visit::{self, Visit};

use crate::{sources, table};

const PAGE: &str = "docs/LIMITS.md";
const CRATES: [&str; 5] = ["protocol", "server", "agent", "supervisor", "cli"];

/// What a constant or a cell of the page amounts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    /// A count, or bytes.
    Plain(i128),
    /// Milliseconds.
    Time(i128),
}

impl fmt::Display for Quantity {
    /// As the page writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => f.write_str(&with_separators(*value)),
            Self::Time(ms) => {
                let units = [(86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
                let exact = units.into_iter().find(|(unit, _)| *ms >= *unit && ms % unit == 0);
                let (unit, name) = exact.unwrap_or((1, "ms"));
                write!(f, "{} {name}", with_separators(ms / unit))
            }
        }
    }
}

/// `1,000,000`.
fn with_separators(value: i128) -> String {
    let digits = value.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

struct Constant {
    folder: &'static str,
    path: String,
    name: String,
    is_duration: bool,
    value: syn::Expr,
}

/// Constants by name.
#[derive(Default)]
struct Constants(BTreeMap<String, Vec<Constant>>);

struct Collector<'a> {
    source: &'a sources::SourceFile,
    found: &'a mut Constants,
}

impl Collector<'_> {
    fn add(&mut self, name: &syn::Ident, ty: &syn::Type, value: &syn::Expr) {
        let is_duration = matches!(ty, syn::Type::Path(path)
            if path.path.segments.last().is_some_and(|last| last.ident == "Duration"));
        let constant = Constant {
            folder: self.source.folder,
            path: self.source.path.clone(),
            name: name.to_string(),
            is_duration,
            value: value.clone(),
        };
        self.found.0.entry(constant.name.clone()).or_default().push(constant);
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.add(&item.ident, &item.ty, &item.expr);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.add(&item.ident, &item.ty, &item.expr);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let is_test = item.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
        });
        if !is_test {
            visit::visit_item_mod(self, item);
        }
    }
}

impl Constants {
    fn read() -> Self {
        let mut found = Self::default();
        for source in sources::rust_files(&CRATES) {
            let stem = Path::new(&source.path).file_stem().unwrap_or_default().to_string_lossy();
            let is_test =
                stem == "tests" || stem.ends_with("_tests") || source.path.contains("/tests/");
            if !is_test && source.text.contains("const ") {
                let file = syn::parse_file(&source.text).expect("a Rust source");
                Collector { source: &source, found: &mut found }.visit_file(&file);
            }
        }
        found
    }

    /// The constants that `folder::NAME` or `folder::file::NAME` may name.
    fn named(&self, reference: &str) -> Vec<&Constant> {
        let parts: Vec<&str> = reference.split("::").collect();
        let (Some(folder), Some(name)) = (parts.first(), parts.last()) else { return Vec::new() };
        let hints = parts.get(1..parts.len() - 1).unwrap_or_default();
        let is_meant = |constant: &&Constant| {
            let has = |hint: &&str| {
                constant.path.split('/').any(|part| part.trim_end_matches(".rs") == *hint)
            };
            constant.folder == *folder && hints.iter().all(has)
        };
        self.0.get(*name).into_iter().flatten().filter(is_meant).collect()
    }

    fn amount(&self, constant: &Constant) -> Option<Quantity> {
        let value = self.evaluate(&constant.value, constant)?;
        let is_time = constant.is_duration || constant.name.ends_with("_MS");
        Some(if is_time { Quantity::Time(value) } else { Quantity::Plain(value) })
    }

    /// A duration counts as milliseconds.
    fn evaluate(&self, value: &syn::Expr, at: &Constant) -> Option<i128> {
        match value {
            syn::Expr::Lit(literal) => match &literal.lit {
                syn::Lit::Int(number) => number.base10_parse().ok(),
                _ => None,
            },
            syn::Expr::Paren(inner) => self.evaluate(&inner.expr, at),
            syn::Expr::Cast(cast) => self.evaluate(&cast.expr, at),
            syn::Expr::Binary(binary) => {
                let (left, right) =
                    (self.evaluate(&binary.left, at)?, self.evaluate(&binary.right, at)?);
                match binary.op {
                    syn::BinOp::Add(_) => left.checked_add(right),
                    syn::BinOp::Sub(_) => left.checked_sub(right),
                    syn::BinOp::Mul(_) => left.checked_mul(right),
                    syn::BinOp::Div(_) => left.checked_div(right),
                    syn::BinOp::Shl(_) => left.checked_shl(u32::try_from(right).ok()?),
                    _ => None,
                }
            }
            syn::Expr::Path(path) => {
                let name = path.path.segments.last()?.ident.to_string();
                let known = self.0.get(&name)?;
                let near = |constant: &&Constant| constant.path == at.path;
                let own = |constant: &&Constant| constant.folder == at.folder;
                let shared = |constant: &&Constant| constant.folder == "protocol";
                let other = known
                    .iter()
                    .find(near)
                    .or_else(|| known.iter().find(own))
                    .or_else(|| known.iter().find(shared))?;
                self.evaluate(&other.value, other)
            }
            syn::Expr::Call(call) => {
                let syn::Expr::Path(function) = &*call.func else { return None };
                let argument = self.evaluate(call.args.first()?, at)?;
                match function.path.segments.last()?.ident.to_string().as_str() {
                    "from_millis" | "new" => Some(argument),
                    "from_secs" => argument.checked_mul(1_000),
                    "from_mins" => argument.checked_mul(60_000),
                    "from_hours" => argument.checked_mul(3_600_000),
                    _ => None,
                }
            }
            // `NonZeroU32::new(5).unwrap()`
            syn::Expr::MethodCall(call) => self.evaluate(&call.receiver, at),
            _ => None,
        }
    }
}

/// Reads a cell such as `64 KiB`, `10,000`, `2^53` or `24 h`.
fn quantity(cell: &str) -> Option<Quantity> {
    let (number, unit) = cell.split_once(' ').unwrap_or((cell, ""));
    let number = match number.split_once('^') {
        Some((base, exponent)) => base.parse::<i128>().ok()?.checked_pow(exponent.parse().ok()?)?,
        None => number.replace(',', "").parse().ok()?,
    };
    let time = |ms: i128| number.checked_mul(ms).map(Quantity::Time);
    let plain = |bytes: i128| number.checked_mul(bytes).map(Quantity::Plain);
    match unit {
        "" | "bytes" => plain(1),
        "KiB" => plain(1 << 10),
        "MiB" => plain(1 << 20),
        "GiB" => plain(1 << 30),
        "ms" => time(1),
        "s" => time(1_000),
        "min" => time(60_000),
        "h" => time(3_600_000),
        "days" => time(24 * 3_600_000),
        _ => None,
    }
}

/// What is wrong with one row; `None` if its constant has the documented value.
fn check_row(constants: &Constants, what: &str, limit: &str, reference: &str) -> Option<String> {
    let Some(documented) = quantity(limit) else {
        return Some(format!(
            "{what}: can't read the limit `{limit}`; write it such as `64 KiB`, `10,000` or `24 h`"
        ));
    };
    let named = constants.named(reference);
    if named.is_empty() {
        return Some(format!(
            "{what}: there is no constant `{reference}`; if it was renamed or moved, correct the last column"
        ));
    }
    // Lists of statements and the like share a name with a number now and then.
    let amounts: Vec<_> = named.iter().filter_map(|constant| constants.amount(constant)).collect();
    let Some(actual) = amounts.first().copied() else {
        return Some(format!("{what}: the test can't evaluate `{reference}`; extend `evaluate`"));
    };
    if amounts.iter().any(|amount| *amount != actual) {
        let paths: Vec<_> = named.iter().map(|constant| constant.path.as_str()).collect();
        return Some(format!(
            "{what}: `{reference}` names several constants with different values; add the file: `crate::file::NAME` ({})",
            paths.join(", ")
        ));
    }
    (actual != documented)
        .then(|| format!("{what}: the page says {limit}, and `{reference}` is {actual}"))
}

#[test]
fn every_limit_is_documented() {
    let constants = Constants::read();
    let page = sources::read(PAGE);
    let rows = table::rows(&page, &["what", "limit", "constant"]);
    assert!(rows.len() > 100, "the tables of {PAGE} changed: this test reads nothing");

    let mut problems = Vec::new();
    let mut documented = BTreeSet::new();
    for row in &rows {
        let (what, limit, cell) = (&row[0], &row[1], row[2].trim_matches('`'));
        if cell == "–" {
            continue;
        }
        problems.extend(check_row(&constants, what, limit, cell));
        documented
            .extend(constants.named(cell).iter().map(|constant| (&constant.path, &constant.name)));
    }
    for constant in constants.0.values().flatten() {
        let is_limit = constant.name.starts_with("MAX_") || constant.name.ends_with("_LIMIT");
        if is_limit && !documented.contains(&(&constant.path, &constant.name)) {
            problems.push(format!(
                "the constant `{}` in {} is not documented; add a row to {PAGE}, under its feature or under \"Internal sizes\": | what it bounds | {} | `{}::{}` |",
                constant.name,
                constant.path,
                constants.amount(constant).map_or_else(|| "its value".into(), |amount| amount.to_string()),
                constant.folder,
                constant.name
            ));
        }
    }
    assert!(problems.is_empty(), "{PAGE} does not match the code:\n{}", problems.join("\n"));
}

#[test]
fn quantities_are_read_with_their_units() {
    assert_eq!(quantity("65,536"), Some(Quantity::Plain(65_536)));
    assert_eq!(quantity("64 KiB"), Some(Quantity::Plain(65_536)));
    assert_eq!(quantity("2^53"), Some(Quantity::Plain(1 << 53)));
    assert_eq!(quantity("7 days"), Some(Quantity::Time(604_800_000)));
    assert_eq!(quantity("a few"), None);
    // As it is written, it is read again.
    for written in ["1,000,000", "42", "7 days", "90 s", "1 ms"] {
        assert_eq!(
            quantity(written).map(|quantity| quantity.to_string()).as_deref(),
            Some(written)
        );
    }
}

#[test]
fn a_wrong_value_and_a_missing_constant_are_reported() {
    let source = sources::SourceFile {
        folder: "server",
        path: "server/src/a.rs".into(),
        text: String::new(),
    };
    let file = syn::parse_file(
        "const BASE: u64 = 2; const MAX_A: usize = 4 * 1024; const WAIT: Duration = Duration::from_secs(BASE * 5);",
    )
    .expect("a Rust source");
    let mut constants = Constants::default();
    Collector { source: &source, found: &mut constants }.visit_file(&file);
    assert_eq!(check_row(&constants, "a", "4 KiB", "server::MAX_A"), None);
    assert_eq!(check_row(&constants, "wait", "10 s", "server::a::WAIT"), None);
    for (limit, reference) in [
        ("5 KiB", "server::MAX_A"),
        ("4 KiB", "agent::MAX_A"),
        ("4 KiB", "server::b::MAX_A"),
        ("10", "server::WAIT"),
    ] {
        assert!(check_row(&constants, "row", limit, reference).is_some(), "{limit} {reference}");
    }
}
