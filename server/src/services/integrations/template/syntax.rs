//! What a template may be made of. Each step of what is allowed takes a short time: the engine counts
//! steps, but one comparison of two lists that were built from themselves takes minutes.

use minijinja::Error;
use minijinja::machinery::ast::{BinOpKind, CompareOpKind, Expr, Stmt, UnaryOpKind};
use minijinja::machinery::parse;
use minijinja::value::ValueKind;

/// The filters that a template may use.
pub(super) const FILTERS: [&str; 2] = ["lower", "upper"];

/// Why a template is not rendered.
#[derive(Debug)]
pub(super) enum SyntaxError {
    Unreadable(Error),
    NotAllowed { what: &'static str, line: u16 },
}

/// Checks that a template has only output, `if`, `for`, names with `.` and `[]`, `and`, `or`, `not`,
/// comparisons with a text, number or truth value, and [`FILTERS`].
pub(super) fn check(source: &str, name: &str) -> Result<(), SyntaxError> {
    let template = parse(source, name, Default::default()).map_err(SyntaxError::Unreadable)?;
    check_statement(&template)
}

fn check_all(statements: &[Stmt<'_>]) -> Result<(), SyntaxError> {
    statements.iter().try_for_each(check_statement)
}

fn check_statement(statement: &Stmt<'_>) -> Result<(), SyntaxError> {
    let not_allowed = |what, line| Err(SyntaxError::NotAllowed { what, line });
    match statement {
        Stmt::Template(template) => check_all(&template.children),
        Stmt::EmitRaw(_) => Ok(()),
        Stmt::EmitExpr(emitted) => check_expression(&emitted.expr),
        Stmt::IfCond(condition) => {
            check_expression(&condition.expr)?;
            check_all(&condition.true_body)?;
            check_all(&condition.false_body)
        }
        Stmt::ForLoop(repeated) => {
            if repeated.recursive {
                return not_allowed("a recursive loop", repeated.span().start_line);
            }
            check_expression(&repeated.target)?;
            check_expression(&repeated.iter)?;
            repeated.filter_expr.iter().try_for_each(check_expression)?;
            check_all(&repeated.body)?;
            check_all(&repeated.else_body)
        }
        Stmt::Set(set) => not_allowed("`set`", set.span().start_line),
        Stmt::SetBlock(set) => not_allowed("`set`", set.span().start_line),
        Stmt::WithBlock(with) => not_allowed("`with`", with.span().start_line),
        _ => not_allowed("a tag other than `if` and `for`", 0),
    }
}

fn check_expression(expression: &Expr<'_>) -> Result<(), SyntaxError> {
    let line = expression.span().start_line;
    let not_allowed = |what| Err(SyntaxError::NotAllowed { what, line });
    match expression {
        Expr::Var(_) => Ok(()),
        Expr::Const(_) if is_scalar(expression) => Ok(()),
        Expr::UnaryOp(operation) if matches!(operation.op, UnaryOpKind::Not) => {
            check_expression(&operation.expr)
        }
        Expr::BinOp(operation) => {
            let is_comparison = match operation.op {
                BinOpKind::ScAnd | BinOpKind::ScOr => false,
                BinOpKind::Eq | BinOpKind::Ne => true,
                BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => true,
                _ => {
                    return not_allowed(
                        "an operator other than `and`, `or`, `not` and comparisons",
                    );
                }
            };
            if is_comparison && !is_scalar(&operation.left) && !is_scalar(&operation.right) {
                return not_allowed("a comparison of two values, neither of which is written out");
            }
            check_expression(&operation.left)?;
            check_expression(&operation.right)
        }
        Expr::Compare(comparison) => {
            let is_in = |op| matches!(op, CompareOpKind::In | CompareOpKind::NotIn);
            match comparison.ops.as_slice() {
                [one] if is_in(one.op) => not_allowed("`in`"),
                [one] if is_scalar(&comparison.expr) || is_scalar(&one.expr) => {
                    check_expression(&comparison.expr)?;
                    check_expression(&one.expr)
                }
                [_] => not_allowed("a comparison of two values, neither of which is written out"),
                _ => not_allowed("a chain of comparisons"),
            }
        }
        Expr::IfExpr(choice) => {
            check_expression(&choice.test_expr)?;
            check_expression(&choice.true_expr)?;
            choice.false_expr.iter().try_for_each(check_expression)
        }
        Expr::Filter(filter) => {
            if !FILTERS.contains(&filter.name) || !filter.args.is_empty() {
                return not_allowed("a filter other than `upper` and `lower`");
            }
            filter.expr.iter().try_for_each(check_expression)
        }
        Expr::GetAttr(attribute) => check_expression(&attribute.expr),
        Expr::GetItem(item) => {
            check_expression(&item.expr)?;
            check_expression(&item.subscript_expr)
        }
        _ => not_allowed("a call, a test, or a list or map that is written out"),
    }
}

/// A text, number or truth value that is written out.
fn is_scalar(expression: &Expr<'_>) -> bool {
    let Expr::Const(constant) = expression else { return false };
    matches!(
        constant.value.kind(),
        ValueKind::String | ValueKind::Number | ValueKind::Bool | ValueKind::None
    )
}
