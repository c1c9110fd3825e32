//! Statements over many rows, of few sizes.
//!
//! A database prepares a statement anew for every number of rows, and keeps it. So rows are
//! written in pieces whose sizes are powers of two, and lists of ids are filled up to one.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveModelTrait, DatabaseTransaction, DbErr, EntityTrait};

/// Rows of the largest piece. Wider statements save no time, and are kept in memory as they are.
const MAX_PIECE: usize = 64;

/// Inserts all of these rows.
pub(super) async fn insert<A>(
    transaction: &DatabaseTransaction,
    rows: Vec<A>,
    on_conflict: Option<OnConflict>,
) -> Result<(), DbErr>
where
    A: ActiveModelTrait + Send,
{
    let mut rows = rows.into_iter();
    while rows.len() > 0 {
        let size = piece_of(rows.len());
        let piece = rows.by_ref().take(size);
        let mut insert = <A::Entity as EntityTrait>::insert_many(piece);
        if let Some(on_conflict) = &on_conflict {
            insert = insert.on_conflict(on_conflict.clone());
        }
        insert.exec_without_returning(transaction).await?;
    }
    Ok(())
}

/// Fills a list for `IN` up to a size that is used often, with a value that it holds already.
pub(in crate::store) fn filled<T: Clone>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// The largest power of two that is not above `rows` and [`MAX_PIECE`]; `rows` is not zero.
fn piece_of(rows: usize) -> usize {
    1 << rows.min(MAX_PIECE).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_powers_of_two_and_add_up() {
        let mut rest = 64 + 64 + 32 + 4 + 1;
        let mut pieces = Vec::new();
        while rest > 0 {
            pieces.push(piece_of(rest));
            rest -= piece_of(rest);
        }
        assert_eq!(pieces, [64, 64, 32, 4, 1]);
    }

    #[test]
    fn a_filled_list_holds_the_same_values() {
        assert_eq!(filled([1, 2, 3]), [1, 2, 3, 3]);
        assert_eq!(filled([7]), [7]);
        assert!(filled(Vec::<u8>::new()).is_empty());
    }
}
