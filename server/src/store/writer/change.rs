//! Rare writes as closures: each runs inside a savepoint of the shared transaction.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{DatabaseTransaction, DbErr, TransactionTrait as _};

use super::BatchOperation;
use super::connection::WriteTx;
use crate::store::StoreError;

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// A change without the type of its value, so that all changes share a queue.
trait ErasedChange: Send + Sync {
    fn run<'a>(&'a self, transaction: &'a DatabaseTransaction) -> Running<'a>;
}

/// A closure that writes. Its value is stored in a [`ValueSlot`].
pub struct Change(Box<dyn ErasedChange>);

/// Holds the value of a change until the commit.
pub(super) struct ValueSlot<T>(Arc<Mutex<Option<T>>>);

impl<T> ValueSlot<T> {
    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct TypedChange<T, F> {
    change: F,
    slot: Arc<Mutex<Option<T>>>,
}

impl Change {
    pub(super) fn new<T, F>(change: F) -> (Self, ValueSlot<T>)
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
        let typed = TypedChange { change, slot: Arc::clone(&slot) };
        (Self(Box::new(typed)), ValueSlot(slot))
    }
}

impl<T, F> ErasedChange for TypedChange<T, F>
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

impl BatchOperation for Change {
    type Done = ();

    async fn apply(
        tx: &WriteTx<'_>,
        operations: &[Self],
    ) -> Result<Vec<Result<(), StoreError>>, DbErr> {
        let transaction = tx.transaction;
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
        tx.epochs.clear();
        Ok(results)
    }
}
