//! Statements over many rows, with few different sizes.
//!
//! A database prepares and caches one statement for every number of rows. So inserts are split into
//! chunks whose sizes are powers of two, and lists of ids are padded to such a size.

use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveModelTrait, DatabaseTransaction, DbErr, EntityTrait};

/// Rows of the largest chunk. Larger statements save no time and stay in the statement cache.
const MAX_CHUNK: usize = 64;

/// Inserts all rows.
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
        let size = chunk_size(rows.len());
        let chunk = rows.by_ref().take(size);
        let mut insert = <A::Entity as EntityTrait>::insert_many(chunk);
        if let Some(on_conflict) = &on_conflict {
            insert = insert.on_conflict(on_conflict.clone());
        }
        insert.exec_without_returning(transaction).await?;
    }
    Ok(())
}

/// Pads a list for `IN` to a power of two by repeating its last value.
pub(in crate::store) fn pad_to_power_of_two<T: Clone>(
    values: impl IntoIterator<Item = T>,
) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    values
}

/// The largest power of two that is not above `rows` and [`MAX_CHUNK`]; `rows` is not zero.
fn chunk_size(rows: usize) -> usize {
    1 << rows.min(MAX_CHUNK).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunk_sizes_are_powers_of_two_and_add_up() {
        let mut rest = 64 + 64 + 32 + 4 + 1;
        let mut chunks = Vec::new();
        while rest > 0 {
            chunks.push(chunk_size(rest));
            rest -= chunk_size(rest);
        }
        assert_eq!(chunks, [64, 64, 32, 4, 1]);
    }

    #[test]
    fn padded_list_repeats_its_last_value() {
        assert_eq!(pad_to_power_of_two([1, 2, 3]), [1, 2, 3, 3]);
        assert_eq!(pad_to_power_of_two([7]), [7]);
        assert!(pad_to_power_of_two(Vec::<u8>::new()).is_empty());
    }
}
