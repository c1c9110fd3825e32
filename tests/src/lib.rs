//! The harness of the end-to-end tests: real servers, agents, supervisors and databases, started
//! in a directory of the test and stopped when it ends.
//!
//! It uses the programs only from outside: command lines, files, REST and the wire. A test never
//! sleeps; it waits on a condition with [`eventually`].

mod agents;
pub mod chaos;
mod clients;
mod databases;
mod fixture;
mod hosts;
mod images;
mod json;
mod networks;
mod processes;
mod proxies;
mod servers;
mod wait;

pub use agents::agent::{Agent, AgentOptions, agent_program};
pub use agents::authority_rollover::{AuthorityRollover, AuthorityRolloverReport};
pub use agents::certified_host::{CertifiedHost, certified_files, client as certified_client};
pub use agents::doctor::{Doctor, finding};
pub use agents::exchange_agent::ExchangeAgent;
pub use agents::fake_agent::{Closed, FakeAgent, full_registration, key_pair_of, proven};
pub use agents::fleet_upgrade::{FleetUpgrade, FleetUpgradeReport};
pub use agents::floods::{Flood, FloodOutcome, Period, measure_flood};
pub use agents::packages::{PackageEntry, file, tar_zst, zip};
pub use agents::publisher::{Publisher, current_version, point_to};
pub use agents::scripts::{Script, install, sha256, write_policy};
pub use agents::third_party_agent::ThirdPartyAgent;
pub use clients::api::{Api, ApiResponse, is_terminal};
pub use clients::authenticator::Authenticator;
pub use clients::cli::{Cli, ProgramOutput, ended, unread};
pub use clients::live_stream::{LiveEvent, LiveStream};
pub use clients::person::{PASSWORD, Person, sign_in};
pub use clients::sso_browser::{
    ATTEMPT_COOKIE, BegunSignIn, begin, browse, come_back, cookie_of, signed_in, single_sign_on,
    single_sign_on_with,
};
pub use clients::totp::totp_code;
pub use clients::webhook_sink::{Reaction, ReceivedMessage, WebhookSink};
pub use databases::cluster::PostgresCluster;
pub use databases::database::PostgresDatabase;
pub use fixture::{ALL, Fixture};
pub use hosts::fake_time::fake_time;
pub use hosts::host::{Host, Manager};
pub use hosts::small_disk::SmallDisk;
pub use images::{Container, Dockerfile, Image, Mount, repository};
pub use json::JsonFields;
pub use networks::{Blackhole, Case, Conditions, Network, Outcome, Shaper, Transport, measure};
pub use processes::binaries::{binary, previous};
pub use processes::ports::{ClosedPort, free_port};
pub use processes::process::Process;
pub use processes::test_dir::TestDir;
pub use processes::tools::{run_tool, test_tools};
pub use proxies::link::Link;
pub use proxies::nginx::{Nginx, Upgrades};
pub use proxies::socks_proxy::{SocksBehaviour, SocksProxy};
pub use proxies::tinyproxy::Tinyproxy;
pub use proxies::tls_terminator::TlsTerminator;
pub use servers::authority::{
    Authority, Certificate, Issued, Secured, connect, shown, try_connect,
};
pub use servers::identity_provider::{
    CLIENT_ID, CLIENT_SECRET, IdentityProvider, ProviderBehaviour, TokenSignature,
};
pub use servers::server::{Database, Server, ServerOptions};
pub use servers::smtp_sink::{MailReaction, ReceivedMail, SmtpSink};
pub use tar::EntryType;
pub use wait::{eventually, eventually_shown, pass, within};

/// For tests of what only root can do: another user's files, becoming another user.
///
/// # Panics
/// Without root.
#[track_caller]
pub fn needs_root() {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root: run the tests as root");
}

/// Makes each named `async fn(Fixture)` two tests: one on SQLite, one on PostgreSQL.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$name($crate::Fixture::on_sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                super::$name($crate::Fixture::on_postgres().await).await;
            }
        }
    )* };
}
