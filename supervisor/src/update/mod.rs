//! Updates of the installed programs: verify, install, try out, keep or roll back.
//!
//! Works on files and starts no process; `supervise` does that. After every step the installation is
//! startable: a new version is placed beside the current one, and one rename makes it current.

mod boot_counter;
mod durable_file;
mod error;
pub mod image;
mod lock;
mod manager;
mod package;
mod pins;
mod staging;
mod trial_record;
mod trial_store;
mod verify;
mod versions;

pub use self::boot_counter::BootCounter;
pub use self::durable_file::FileError;
pub use self::error::UpdateError;
pub use self::lock::LockError;
pub use self::manager::{Installed, UpdateManager};
pub use self::package::PackageError;
pub use self::pins::{PinError, Pins};
pub use self::trial_record::{MAX_BOOTS, Phase, TrialRecord};
pub use self::verify::{AcceptedRelease, TrustPolicy, verify_download};
