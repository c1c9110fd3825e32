//! The `muster-server` program: command line, logging and subcommands.

// They panic if the reader of the pipe is gone.
#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use muster_protocol::program::log_format::LogFormat;
use muster_server::adapters::close_new_files_to_others;
use muster_server::adapters::control_socket::{ControlReply, ControlRequest};
use muster_server::adapters::readiness;
use muster_server::config::{Config, ConfigSources};
use muster_server::domain::time::Timestamp;
use muster_server::http::openapi;
use muster_server::services::access::people::setup::NewPerson;
use muster_server::services::operations::backup::{self, BackupContents};
use muster_server::services::operations::storage::ServerStorage;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

/// More than the longest password, so that a longer one is refused and not cut.
const MAX_LINE_BYTES: u64 = 1_024;

/// The oldest history that `purge` keeps.
const MAX_PURGE_DAYS: u64 = 36_500;
const DAY_MS: u64 = 24 * 3_600_000;

/// The reader of standard output closed it: 128 + SIGPIPE.
const EXIT_PIPE_CLOSED: u8 = 141;

/// The Muster server: runs commands on a fleet of hosts
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server until it receives TERM or INT
    Serve(Box<ConfigSources>),
    /// Check whether the server that uses this data directory is ready, and exit with 0 if so. For
    /// container health checks. Takes the options of `serve`
    Health(Box<ConfigSources>),
    /// Print the OpenAPI document
    Openapi,
    /// Print the AsyncAPI document of the agent protocol
    Asyncapi,
    /// Print the JSON Schema of the frames of the agent protocol
    Frames,
    /// Make a person an owner of the first tenant while the server is stopped. Reads the password from the
    /// terminal or from standard input. A person who is known by the address gets the new password and is
    /// signed out. Takes the options of `serve`
    CreateOwner {
        /// Address by which the owner signs in
        #[arg(long)]
        email: String,
        /// Name of the owner [default: the part of the address before the @]
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        sources: Box<ConfigSources>,
    },
    /// Reset the second factor of a person who has lost the device and the recovery codes, while the server is
    /// stopped. The password stays, and the person is signed out. Takes the options of `serve`
    ResetSecondFactor {
        /// Address by which the person signs in
        email: String,
        #[command(flatten)]
        sources: Box<ConfigSources>,
    },
    /// Delete history at once, while the server is stopped, and give its space back to the system: executions that
    /// have ended, with their output, deliveries, events and telemetry. Open work and audit logs stay. Takes the
    /// options of `serve`
    Purge {
        /// Delete what is older than this number of days, such as 30 or 30d; 0 deletes everything that has ended
        #[arg(long, value_name = "DAYS", value_parser = days)]
        older_than: u64,
        #[command(flatten)]
        sources: Box<ConfigSources>,
    },
    /// Show what history, output, telemetry and audit logs take, by tenant and by script, while the server is
    /// stopped. `muster storage` shows it while it runs. Takes the options of `serve`
    Storage(Box<ConfigSources>),
    /// Write everything that the server stores into one file, while it runs or is stopped. Takes the options of
    /// `serve`
    Backup {
        /// File to write, which must not exist
        file: PathBuf,
        /// Add the master key, so that the file alone is enough. Anyone who has it can then read all secrets
        #[arg(long)]
        with_keys: bool,
        #[command(flatten)]
        sources: Box<ConfigSources>,
    },
    /// Restore a backup into an empty data directory and an empty database. Takes the options of `serve`
    Restore {
        /// Backup to read
        file: PathBuf,
        #[command(flatten)]
        sources: Box<ConfigSources>,
    },
    /// Check that a backup is complete and undamaged, and print what it contains
    Verify {
        /// Backup to read
        file: PathBuf,
    },
    /// Replace the master key: seal every secret in the database with a new key, while the server runs or is
    /// stopped. If it is interrupted, a server can start with both keys; run it again to finish. Takes the options
    /// of `serve`
    RotateMasterKey(Box<ConfigSources>),
    /// Replace the key that signs audit logs, while the server runs or is stopped. Each log gets an entry about it,
    /// signed with the old key. If it is interrupted, run it again to finish. Takes the options of `serve`
    RotateAuditKey(Box<ConfigSources>),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(sources) => sources.resolve().map_err(anyhow::Error::from).and_then(serve),
        Command::Health(sources) => sources.resolve().map_err(anyhow::Error::from).and_then(health),
        Command::Openapi => {
            openapi::document().map_err(anyhow::Error::from).and_then(|text| print(&text))
        }
        Command::Asyncapi => print(&openapi::asyncapi()),
        Command::Frames => print(&openapi::frame_schemas()),
        Command::CreateOwner { email, name, sources } => sources
            .resolve()
            .map_err(anyhow::Error::from)
            .and_then(|config| create_owner(&config, email, name)),
        Command::ResetSecondFactor { email, sources } => sources
            .resolve()
            .map_err(anyhow::Error::from)
            .and_then(|config| reset_second_factor(&config, &email)),
        Command::Purge { older_than, sources } => sources
            .resolve()
            .map_err(anyhow::Error::from)
            .and_then(|config| purge(&config, older_than)),
        Command::Storage(sources) => {
            sources.resolve().map_err(anyhow::Error::from).and_then(|config| storage(&config))
        }
        Command::Backup { file, with_keys, sources } => sources
            .resolve()
            .map_err(anyhow::Error::from)
            .and_then(|config| back_up(&config, &file, with_keys)),
        Command::Restore { file, sources } => sources
            .resolve()
            .map_err(anyhow::Error::from)
            .and_then(|config| restore(&config, &file)),
        Command::Verify { file } => backup::verify(&file)
            .map_err(anyhow::Error::from)
            .and_then(|contents| print(&format!("{}\n", described(&file, &contents)))),
        Command::RotateMasterKey(sources) => sources
            .resolve()
            .map_err(anyhow::Error::from)
            .and_then(|config| rotate_key(&config, ControlRequest::RotateMasterKey)),
        Command::RotateAuditKey(sources) => sources
            .resolve()
            .map_err(anyhow::Error::from)
            .and_then(|config| rotate_key(&config, ControlRequest::RotateAuditKey)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::from(EXIT_PIPE_CLOSED),
        Err(error) => {
            // The reader of standard error may be gone too.
            let _ = writeln!(io::stderr(), "muster-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output. `print!` panics if the reader closed the pipe.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// True if the reader of standard output closed it, which needs no message.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn serve(config: Config) -> anyhow::Result<()> {
    close_new_files_to_others();
    let filter = EnvFilter::try_new(&config.log)
        .map_err(|error| anyhow::anyhow!("failed to read the log filter: {error}"))?;
    // Logs must not contain SQL, because it may contain data of callers.
    let quiet = ["sqlx=warn", "sea_orm=warn", "tokio_cron_scheduler=warn"];
    let filter = quiet.iter().try_fold(filter, |filter, directive| {
        directive.parse().map(|directive| filter.add_directive(directive))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A failing log output would panic otherwise.
        .log_internal_errors(false);
    match config.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        // The fields of an event beside its time and level, and those of its request in `span`.
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
    }
    choose_cryptography()?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(muster_server::boot::serve(config))
}

fn rotate_key(config: &Config, request: ControlRequest) -> anyhow::Result<()> {
    close_new_files_to_others();
    choose_cryptography()?;
    let reply = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(muster_server::boot::rotate_key(config, request))?;
    match reply {
        ControlReply::MasterKeyRotated { sealed, unreadable, file, previous_file } => {
            let damaged = match unreadable {
                0 => String::new(),
                count => format!("{count} values were damaged before and stay unreadable\n"),
            };
            print(&format!(
                "sealed {sealed} values with the new master key in {}\n{damaged}the old key is in {}: keep it with \
                 the backups from before, which only it opens, and delete both together\n",
                file.display(),
                previous_file.display()
            ))
        }
        ControlReply::AuditKeyRotated { logs, previous, present } => print(&format!(
            "the key {present} signs audit logs; {logs} logs have an entry about it, signed with the old key \
             {previous}\nheads from before stay valid under the old key\n"
        )),
        ControlReply::Failed { reason } => anyhow::bail!("{reason}"),
    }
}

fn back_up(config: &Config, file: &Path, with_keys: bool) -> anyhow::Result<()> {
    close_new_files_to_others();
    let contents = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(muster_server::boot::back_up(config, file, with_keys))?;
    print(&format!("{}\n", described(file, &contents)))
}

fn restore(config: &Config, file: &Path) -> anyhow::Result<()> {
    close_new_files_to_others();
    let contents = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(muster_server::boot::restore(config, file))?;
    print(&format!(
        "{}\nrestored into {}; start the server with the same options. Schedules do not make up what was due \
         since the backup\n",
        described(file, &contents),
        config.data_dir.display()
    ))
}

/// What a backup contains, in a sentence for each matter.
fn described(file: &Path, contents: &BackupContents) -> String {
    let (header, totals) = (&contents.header, &contents.totals);
    let key = match (&header.master_key_id, header.has_keys) {
        (_, true) => "it contains the master key: keep it as safe as the server".to_owned(),
        (Some(id), false) => {
            format!(
                "it does not contain the master key {id}: keep that elsewhere, and restore both"
            )
        }
        (None, false) => "it needs no master key".to_owned(),
    };
    format!(
        "{} is complete: {} entries, {} bytes, of {}, version {}, schema {}, {}\n{key}",
        file.display(),
        totals.entries,
        totals.bytes,
        Timestamp(header.created_at),
        header.server_version.escape_debug(),
        header.schema.join(", ").escape_debug(),
        header.database.escape_debug(),
    )
}

fn create_owner(config: &Config, email: String, name: Option<String>) -> anyhow::Result<()> {
    close_new_files_to_others();
    choose_cryptography()?;
    let password = Zeroizing::new(match std::io::stdin().is_terminal() {
        true => rpassword::prompt_password("Password: ")?,
        false => read_line()?,
    });
    let person = NewPerson { email, name, password };
    let (made, removed) = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(muster_server::boot::create_owner(config, person))?;
    let identities = match removed {
        0 => String::new(),
        count => format!("its links to providers of single sign-on are removed: {count}\n"),
    };
    print(&format!("{} is an owner of the tenant {}\n{identities}", made.email, made.tenant_name))
}

fn reset_second_factor(config: &Config, email: &str) -> anyhow::Result<()> {
    close_new_files_to_others();
    choose_cryptography()?;
    let email = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(muster_server::boot::reset_second_factor(config, email))?;
    print(&format!("{email} has no second factor any more, and is signed out\n"))
}

/// A number of days, with or without its unit.
fn days(typed: &str) -> Result<u64, String> {
    let number = typed.strip_suffix('d').unwrap_or(typed);
    let days = number.parse().ok().filter(|days| *days <= MAX_PURGE_DAYS);
    days.ok_or_else(|| {
        format!("use a number of days from 0 to {MAX_PURGE_DAYS}, such as 30 or 30d")
    })
}

fn purge(config: &Config, days: u64) -> anyhow::Result<()> {
    close_new_files_to_others();
    choose_cryptography()?;
    let purged = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(muster_server::boot::purge(config, days * DAY_MS))?;
    print(&format!(
        "database: {} bytes before, {} bytes now\noutput: {} bytes before, {} bytes now\n",
        purged.database_before_bytes,
        purged.database_after_bytes,
        purged.output_before_bytes,
        purged.output_after_bytes
    ))
}

fn storage(config: &Config) -> anyhow::Result<()> {
    close_new_files_to_others();
    choose_cryptography()?;
    let server = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(muster_server::boot::storage(config))?;
    print(&storage_report(&server))
}

/// A line for each number, in bytes.
fn storage_report(server: &ServerStorage) -> String {
    let known = |bytes: Option<u64>| bytes.map_or("unknown".to_owned(), |bytes| bytes.to_string());
    let mut lines = vec![
        format!("database: {} bytes", server.database_bytes),
        format!(
            "disk: {} bytes free of {}",
            known(server.disk_free_bytes),
            known(server.disk_bytes)
        ),
        format!("forecast: {}", server.forecast),
    ];
    for cause in &server.usage.causes {
        let (name, files, rows) =
            (cause.cause.as_str(), cause.file_bytes, cause.estimated_row_bytes);
        lines.push(format!(
            "{name}: {} rows, {files} bytes of files, about {rows} bytes of rows",
            cause.row_count
        ));
    }
    for script in &server.usage.scripts {
        let name = script.script.as_deref().unwrap_or("other commands").escape_debug();
        let (count, output) = (script.execution_count, script.output_bytes);
        lines.push(format!(
            "script {name}: {count} executions, {output} bytes of output, {} written, about {} of history",
            script.written_bytes, script.history_bytes
        ));
    }
    for found in &server.tenants {
        let name = found.tenant.name.escape_debug();
        let limit = found.tenant.storage_limit_bytes();
        let quota = limit.map_or("no quota".to_owned(), |bytes| format!("quota {bytes}"));
        lines.push(format!(
            "tenant {name}: {} bytes, {} of them history and output, {quota}",
            found.total_bytes, found.counted_bytes
        ));
    }
    lines.join("\n") + "\n"
}

fn read_line() -> std::io::Result<String> {
    let mut line = String::new();
    std::io::stdin().take(MAX_LINE_BYTES).read_to_string(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn health(config: Config) -> anyhow::Result<()> {
    choose_cryptography()?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(readiness::ask(&config.data_dir))?;
    Ok(())
}

fn choose_cryptography() -> anyhow::Result<()> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("failed to choose the cryptography provider");
    }
    Ok(())
}
