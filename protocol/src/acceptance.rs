//! The count that tells a host's ledger from an older copy of itself.

/// What a register says of the ledger, beside what the server remembers of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerComparison {
    /// The same ledger, no older than remembered: its inventory can be believed.
    Current,
    /// Another ledger, or an older copy: whatever it was sent before can't be accounted for.
    Replaced,
}

/// Judges a ledger by its id and its fsynced acceptance count.
pub fn compare_ledger<Id: PartialEq>(
    remembered: Option<(&Id, u64)>,
    presented: (&Id, u64),
) -> LedgerComparison {
    match remembered {
        None => LedgerComparison::Current,
        Some((id, count)) if id == presented.0 && presented.1 >= count => LedgerComparison::Current,
        Some(_) => LedgerComparison::Replaced,
    }
}
