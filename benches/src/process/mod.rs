//! Processes that a measurement starts, and their statistics from the kernel.

mod certificate;
mod fleet;
mod folder;
mod managed_process;
mod proc_stats;
mod server;

pub use self::certificate::{TlsCertificate, showing, trusting};
pub use self::fleet::{FleetCounts, FleetHandle, Round};
pub use self::folder::measurement_folder;
pub use self::managed_process::{ManagedProcess, host_binary, release_binary};
pub use self::proc_stats::{Memory, cpu_ms, load_average, memory, peak_rss_bytes};
pub use self::server::Server;
