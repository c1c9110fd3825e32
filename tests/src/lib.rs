//! The harness of the end-to-end tests: real servers, agents, supervisors and databases, started
//! in a folder of the test's own and gone when it ends.
//!
//! Knows the programs only from outside: their command lines, files, REST and wire. A test never
//! sleeps; it waits on a condition with [`eventually`].

mod agent;
mod api;
mod authority;
mod binaries;
pub mod chaos;
mod cli;
mod doctor;
mod fake_agent;
mod fake_time;
mod host;
mod image;
mod leftovers;
mod link;
mod live;
mod migration;
mod nginx;
mod ports;
mod postgres;
mod process;
mod receiver;
mod releases;
mod rows;
mod scripts;
mod server;
mod site;
mod small_disk;
mod strangers;
mod third_party;
mod tinyproxy;
mod tls_front;
mod wait;
mod world;

pub use agent::{Agent, AgentOptions, agent_program};
pub use api::{Answer, Api, is_terminal};
pub use authority::{Authority, Certificate, Issued, Secured, connect, shown};
pub use binaries::{binary, previous};
pub use cli::{Cli, Said, ended};
pub use doctor::{Doctor, finding};
pub use fake_agent::{Closed, FakeAgent, full_registration};
pub use fake_time::fake_time;
pub use host::{Host, Manager};
pub use image::{Container, Dockerfile, Image, repository};
pub use link::Link;
pub use live::{LiveEvent, LiveStream};
pub use migration::{Migration, Passage};
pub use nginx::{Nginx, Upgrades};
pub use ports::ClosedPort;
pub use postgres::Postgres;
pub use process::Process;
pub use receiver::{Reaction, Received, Receiver};
pub use releases::{Publisher, current_version, point_to};
pub use scripts::{Script, install, sha256, write_policy};
pub use server::{Database, Server, ServerOptions};
pub use site::Site;
pub use small_disk::SmallDisk;
pub use third_party::ThirdParty;
pub use tinyproxy::Tinyproxy;
pub use tls_front::TlsFront;
pub use wait::{eventually, eventually_shown, within};
pub use world::{ALL, World};

/// For tests of what only root can do: another user's files, becoming another user.
///
/// # Panics
/// Without root.
#[track_caller]
pub fn needs_root() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root: run the tests as root");
}

/// Makes each named `async fn(World)` two tests: one on SQLite, one on PostgreSQL.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$name($crate::World::on_sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                super::$name($crate::World::on_postgres().await).await;
            }
        }
    )* };
}
