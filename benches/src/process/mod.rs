//! Programs that a measurement starts, and what the kernel says of them.

mod fleet;
mod pair;
mod program;
mod readings;
mod scene;
mod server;

pub use self::fleet::{FleetCounts, FleetHandle, Round};
pub use self::pair::{Pair, trusting};
pub use self::program::{Program, host_binary, release_binary};
pub use self::readings::{Memory, cpu_ms, load_average, memory, peak_rss_bytes};
pub use self::scene::scene;
pub use self::server::Server;
