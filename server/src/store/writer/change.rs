//! Writes too rare to merge: each runs inside a savepoint of the shared transaction.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{DatabaseTransaction, DbErr, TransactionTrait as _};

use super::Merge;
use super::connection::Work;
use crate::store::StoreError;

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// A change whose type of value is forgotten, so that changes of all types share a queue.
trait Run: Send + Sync {
    fn run<'a>(&'a self, transaction: &'a DatabaseTransaction) -> Running<'a>;
}

/// A change whose value is left in its [`Slot`].
pub struct Change(Box<dyn Run>);

/// Where a change leaves what it made, until the commit.
pub(super) struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Slot<T> {
    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Typed<T, F> {
    change: F,
    slot: Arc<Mutex<Option<T>>>,
}

impl Change {
    pub(super) fn new<T, F>(change: F) -> (Self, Slot<T>)
    where
        T: Send + 'static,
        F: for<'a> Fn(
                &'a DatabaseTransaction,
            )
                -> Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>
            + Send
            + Sync
            + 'static,
    {
        let slot = Arc::new(Mutex::new(None));
        let typed = Typed { change, slot: Arc::clone(&slot) };
        (Self(Box::new(typed)), Slot(slot))
    }
}

impl<T, F> Run for Typed<T, F>
where
    T: Send,
    F: for<'a> Fn(
            &'a DatabaseTransaction,
        ) -> Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>
        + Send
        + Sync,
{
    fn run<'a>(&'a self, transaction: &'a DatabaseTransaction) -> Running<'a> {
        Box::pin(async move {
            let value = (self.change)(transaction).await?;
            *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(())
        })
    }
}

impl Merge for Change {
    type Done = ();

    async fn apply(
        work: &Work<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<(), StoreError>>, DbErr> {
        let transaction = work.transaction;
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            let savepoint = transaction.begin().await?;
            let result = operation.0.run(&savepoint).await;
            match result {
                Ok(()) => savepoint.commit().await?,
                Err(StoreError::Database(error)) => return Err(error),
                Err(_) => savepoint.rollback().await?,
            }
            results.push(result);
        }
        work.epochs.forget();
        Ok(results)
    }
}
