//! Rare writes as closures: each runs inside a savepoint of the shared transaction.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{DatabaseTransaction, DbErr, TransactionTrait as _};

use super::BatchOperation;
use super::connection::WriteTx;
use crate::domain::integrations::integration::IntegrationEvent;
use crate::store::StoreError;
use crate::store::entities::access::audit_entry;

tokio::task_local! {
    /// The audit entries of the change that runs. They are dropped with its savepoint if it fails.
    static ENTRIES: RefCell<Vec<audit_entry::Model>>;
    /// The same for its events.
    static EVENTS: RefCell<Vec<IntegrationEvent>>;
}

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

/// Adds an audit entry to the change that runs; it is stored at the end of the transaction, as part of
/// the tenant's hash chain.
///
/// # Errors
/// [`StoreError::Refused`] outside of a change, where nothing would store it.
pub(in crate::store) fn add_audit(entry: audit_entry::Model) -> Result<(), StoreError> {
    ENTRIES
        .try_with(|entries| entries.borrow_mut().push(entry))
        .map_err(|_| StoreError::Refused("an audit entry was written outside of a change"))
}

/// Adds events to the change that runs; at the end of the transaction they are stored as messages of the
/// integrations that take them. Outside of a change they are dropped.
pub(in crate::store) fn add_events(events: impl IntoIterator<Item = IntegrationEvent>) {
    let added = EVENTS.try_with(|known| known.borrow_mut().extend(events));
    debug_assert!(added.is_ok(), "an event was added outside of a change");
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
            let run = async {
                let result = operation.0.run(&savepoint).await;
                (result, ENTRIES.with(RefCell::take), EVENTS.with(RefCell::take))
            };
            let run = EVENTS.scope(RefCell::default(), run);
            let (result, entries, events) = ENTRIES.scope(RefCell::default(), run).await;
            match result {
                Ok(()) => {
                    savepoint.commit().await?;
                    tx.audit.append(entries);
                    tx.outbox.append(events);
                }
                Err(StoreError::Database(error)) => return Err(error),
                Err(_) => savepoint.rollback().await?,
            }
            results.push(result);
        }
        tx.epochs.clear();
        Ok(results)
    }
}
