//! Starts and stops the server. The only module that uses all layers.

mod certificates;
mod local_agent;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::adapters::control_socket::{self, ControlListener, ControlReply, ControlRequest};
use crate::adapters::data_directory;
use crate::adapters::database_password;
use crate::adapters::oidc::client::OidcClient;
use crate::adapters::package_files::PackageFiles;
use crate::adapters::passkey_verifier::PasskeyVerifier;
use crate::adapters::program_files::ProgramFiles;
use crate::adapters::release_files::ReleaseFiles;
use crate::adapters::smtp::client::SmtpClient;
use crate::adapters::uploaded_files::UploadedFiles;
use crate::adapters::webhook_client::WebhookClient;
use crate::config::{Config, MailConfig};
use crate::domain::access::records::MemberRecord;
use crate::domain::secret_box::SecretBox;
use crate::domain::time::Clock;
use crate::fault;
use crate::http;
use crate::http::AppState;
use crate::hub::Hub;
use crate::listener::{Bound, Certificate, Limits, open_file_limit};
use crate::services::access::authentication::Authentication;
use crate::services::access::people::setup::{NewPerson, Setup, TOKEN_FILE};
use crate::services::access::people::totp::reset::SecondFactorReset;
use crate::services::operations::audit_key;
use crate::services::operations::backup::{self, BackupContents, DataLocation};
use crate::services::operations::key_rotations::KeyRotations;
use crate::services::operations::master_key::{KeyLocations, unlock};
use crate::services::operations::purge::{self, Purged};
use crate::services::operations::restore;
use crate::services::operations::restore_record;
use crate::services::operations::storage::{ServerStorage, Storage};
use crate::services::{Adapters, Services};
use crate::store::Store;
use crate::store::backup::database_file;
use crate::workers::{Workers, control};
use crate::ws;

/// How long requests in progress may take at shutdown.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// Serves until TERM or INT.
///
/// # Errors
/// The reason why the server cannot start, as a sentence for the operator.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    // Checked first, so that a server with a broken TLS setup changes nothing.
    certificates::check(&config)?;
    let hangup = signal(SignalKind::hangup()).context("failed to wait for signals")?;
    let clock = Clock::system();
    let (store, secret_box) = open_store(&config).await?;
    let authority = certificates::authority(&config, (&store, &secret_box), &clock).await?;
    let client_authority =
        certificates::client_authority(&config, (&store, &secret_box), &clock, &authority).await?;
    let certificate = match &authority {
        Some(authority) => Some(Certificate::issue(authority.clone(), &clock)?),
        None => certificates::from_files(&config, client_authority.clone(), &clock)?,
    };
    let is_secure = certificate.is_some();
    let hub = Arc::new(Hub::default());
    let files = ProgramFiles::new(config.install_dir.clone());
    let outside = Adapters {
        files,
        packages: PackageFiles::new(config.data_dir.join("packages")),
        uploaded_files: UploadedFiles::new(config.data_dir.join("files")),
        releases: ReleaseFiles::new(config.data_dir.join("releases")),
        webhooks: WebhookClient::new(config.webhooks, config.webhook_ca_file.as_deref())?,
        mail: smtp_client(&config.mail)?,
        public_url: config.public_url.clone(),
        oidc: oidc_clients(&config)?,
        passkeys: config.public_url.as_ref().and_then(|url| PasskeyVerifier::new(&url.to_string())),
        authority: client_authority,
    };
    let services = Services::new(&store, &hub, &clock, &secret_box, outside, config.settings);
    bootstrap(&services, &config).await?;
    services.tenant_deletion.load().await.context("failed to read the tenants")?;
    let local_agent = local_agent::prepare(&config, &services).await?;

    let connections = Limits::connections(config.max_connections, open_file_limit());
    let limits = Limits {
        handshake: config.handshake_timeout,
        request_head: config.request_head_timeout,
        answer: config.answer_timeout,
        connections,
        per_source: Limits::per_source(config.max_connections_per_source, connections),
        trusted_proxies: config.trusted_proxies.clone(),
    };
    let bound = Bound::bind(&config.listen, certificate.as_ref(), limits).await?;
    let url = bound.url();
    std::fs::write(config.data_dir.join("server_url"), format!("{url}\n"))
        .context("failed to write to the data directory")?;
    let mut workers = Workers::start(&services, &hub).await?;
    let rotations = key_rotations(&config, (&store, &secret_box), Some(&services.authentication));
    workers.serve_control(ControlListener::bind(&config.data_dir)?, rotations);
    let state = AppState::new(http::ApiState {
        services: services.clone(),
        clock,
        exchanges: http::ExchangeSessions::default(),
        polls: http::PollSessions::default(),
        body_bytes: http::BodyBytes::new(services.freed_memory.clone()),
        public_url: config.public_url.clone(),
        is_secure,
        authority,
    });
    let (sessions, viewers) = (Arc::clone(&services.sessions), services.viewers.clone());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let app = http::router(state).merge(ws::router(&services));
    let app = http::with_envelope(app, Clock::system(), is_secure, stopped.clone());
    let (max_connections, version) = (connections, env!("CARGO_PKG_VERSION"));
    fault::warn();
    tracing::info!(%url, version, max_connections, "serving");
    let local_agent = local_agent::start(&config, local_agent, &url)?;

    let mut renewal = tokio::spawn(Certificate::follow(certificate, hangup, config.tls_check));
    let mut server = tokio::spawn(bound.serve(app, stopped));
    let reason = tokio::select! {
        reason = stop_signal() => reason?,
        () = store.writer().ended() => {
            tracing::error!("the database writer stopped; stopping the server");
            "the database writer stopped"
        }
        ended = workers.ended() => {
            tracing::error!(worker = ended, "a background worker stopped; stopping the server");
            "a background worker stopped"
        }
        ended = &mut server => return ended.context("the listener stopped"),
        ended = &mut renewal => return ended.context("the certificate renewal stopped"),
    };
    tracing::info!(reason, "stopping");
    if let Some(agent) = &local_agent {
        agent.request_stop();
    }
    // Stop accepting first, so that clients that are disconnected now cannot reconnect to this
    // server.
    let _ = stop.send(true);
    sessions.close();
    viewers.close();
    drain(&hub, config.drain_spread_ms);
    let gone = async {
        sessions.wind_down().await;
        let _ = (&mut server).await;
    };
    if tokio::time::timeout(SHUTDOWN_WAIT, gone).await.is_err() {
        tracing::warn!("some connections did not close in time");
        server.abort();
    }
    renewal.abort();
    workers.stop().await;
    if let Some(agent) = local_agent {
        let ended = tokio::task::spawn_blocking(|| agent.stop()).await;
        ended.context("failed to stop the local agent")?;
    }
    // Commits everything that was queued before.
    store.system().flush().await.context("failed to flush the database")?;
    tracing::info!("stopped");
    Ok(())
}

fn oidc_clients(config: &Config) -> anyhow::Result<Vec<OidcClient>> {
    let clients = config.oidc_providers.iter().cloned().map(OidcClient::new);
    clients.collect::<Result<_, _>>().context("failed to set up single sign-on")
}

/// Makes a person an owner of the first tenant. The server must be stopped.
///
/// # Errors
/// The reason why not, as a sentence for the operator.
pub async fn create_owner(
    config: &Config,
    person: NewPerson,
) -> anyhow::Result<(MemberRecord, usize)> {
    let (store, _) = open_store(config).await?;
    // Without the first tenant there is nothing to own.
    let authentication = Authentication::new(store.clone(), Clock::system());
    let chosen = std::env::var("MUSTER_BOOTSTRAP_KEY").ok().filter(|key| !key.is_empty());
    authentication
        .bootstrap(&config.data_dir, chosen.as_deref())
        .await
        .context("failed to create the first API key")?;
    let setup = Setup::new(store, Clock::system());
    setup.create_owner(&config.data_dir, person).await.context("failed to create the owner")
}

/// Resets the second factor of a person. The server must be stopped; it sends the mail about it when it starts.
///
/// # Errors
/// The reason why not, as a sentence for the operator.
pub async fn reset_second_factor(config: &Config, email: &str) -> anyhow::Result<String> {
    let (store, secret_box) = open_existing_store(config).await?;
    let mail = (smtp_client(&config.mail)?, config.public_url.clone());
    let reset = SecondFactorReset::new(store, Clock::system(), secret_box, mail);
    reset.reset(email).await.context("failed to reset the second factor")
}

/// Deletes the history of more than `kept_ms` ago, and gives its space back. The server must be stopped.
///
/// # Errors
/// The reason why not, as a sentence for the operator.
pub async fn purge(config: &Config, kept_ms: u64) -> anyhow::Result<Purged> {
    let (store, _) = open_existing_store(config).await?;
    let clock = Clock::system();
    let before = clock.now().minus_ms(kept_ms);
    let purged = purge::purge(&store, &clock, before).await.context("failed to purge")?;
    store.system().flush().await.context("failed to flush the database")?;
    Ok(purged)
}

/// Measures what a stopped server stores.
///
/// # Errors
/// The reason why not, as a sentence for the operator.
pub async fn storage(config: &Config) -> anyhow::Result<ServerStorage> {
    let (store, _) = open_existing_store(config).await?;
    let releases = Arc::new(ReleaseFiles::new(config.data_dir.join("releases")));
    let every_ms = config.settings.storage_measure_every_ms;
    let storage = Storage::new(store, Clock::system(), releases, every_ms);
    storage.measure(false).await.context("failed to measure what is stored")?;
    storage.server().await.context("failed to read what is stored")
}

/// [`open_store`] for commands that change what a server has stored. They must not create new data where a
/// setting names another directory.
async fn open_existing_store(config: &Config) -> anyhow::Result<(Store, SecretBox)> {
    let folder = &config.data_dir;
    let is_there = match config.database_url.starts_with("sqlite:") {
        true => database_file(&config.database_url)?.exists(),
        false => folder.is_dir(),
    };
    anyhow::ensure!(
        is_there,
        "no data of a server is in {}; set --data-dir (MUSTER_DATA_DIR) to the data directory of the server",
        folder.display()
    );
    if let Some(owner) = data_directory::other_owner(folder) {
        // Its files would be of this user, and the server could not read them.
        anyhow::bail!(
            "{} belongs to another user; run this command as the user of the server, for example with \
             `sudo -u '#{owner}'`",
            folder.display()
        );
    }
    open_store(config).await
}

/// Opens the database, and its secrets with the master key.
async fn open_store(config: &Config) -> anyhow::Result<(Store, SecretBox)> {
    let store = open_database(config).await?;
    let secret_box = unlock(&store, key_locations(config)).await?;
    audit_key::load(&store, &secret_box).await.context("failed to load the key of audit logs")?;
    restore_record::record(&store).await.context("failed to record the restore of the server")?;
    Ok((store, secret_box))
}

/// The password itself is only read from the environment or from a file.
fn smtp_client(config: &MailConfig) -> anyhow::Result<SmtpClient> {
    let (settings, password_file) = match config {
        MailConfig::None => {
            tracing::info!(
                "no mail server is set (`smtp_url`), so registration and the reset of passwords by mail are refused"
            );
            return Ok(SmtpClient::None);
        }
        MailConfig::Print => {
            tracing::warn!(
                "mails are printed with their codes (`demo_print_codes`); use this for demonstrations only"
            );
            return Ok(SmtpClient::Print);
        }
        MailConfig::Smtp { settings, password_file } => (settings, password_file),
    };
    let text = std::env::var("MUSTER_SMTP_PASSWORD").ok().filter(|text| !text.is_empty());
    let password = settings.password(text.map(Zeroizing::new), password_file.as_deref());
    SmtpClient::new(settings, password?).context("failed to prepare the mail client")
}

fn read_password(config: &Config) -> anyhow::Result<Option<Zeroizing<String>>> {
    let password_file = config.database_password_file.as_deref();
    Ok(database_password::read(&config.database_url, password_file)?)
}

async fn open_database(config: &Config) -> anyhow::Result<Store> {
    let password = read_password(config)?;
    let password = password.as_ref().map(|password| password.as_str());
    Store::open_with_password(&config.database_url, password, &config.data_dir)
        .await
        .context("failed to open the database")
}

/// The key itself is only read from the environment, because other users can read configuration
/// files and command lines.
fn key_locations(config: &Config) -> KeyLocations {
    KeyLocations {
        text: std::env::var("MUSTER_MASTER_KEY")
            .ok()
            .map(Zeroizing::new)
            .filter(|key| !key.is_empty()),
        file: config.master_key_file.clone(),
        own_file: config.data_dir.join("master.key"),
    }
}

/// Replaces the master key or the key of audit logs: by the running server, or here if none uses the data
/// directory.
///
/// # Errors
/// The reason why not, as a sentence for the operator. Run it again to finish an interrupted rotation.
pub async fn rotate_key(config: &Config, request: ControlRequest) -> anyhow::Result<ControlReply> {
    if let Some(reply) = control_socket::ask(&config.data_dir, request).await? {
        return Ok(reply);
    }
    let (store, secret_box) = open_existing_store(config).await?;
    let rotations = key_rotations(config, (&store, &secret_box), None);
    Ok(match request {
        ControlRequest::RotateMasterKey => control::rotate_master_key(&rotations).await?,
        ControlRequest::RotateAuditKey => control::rotate_audit_key(&rotations).await?,
    })
}

fn key_rotations(
    config: &Config,
    stored: (&Store, &SecretBox),
    authentication: Option<&Authentication>,
) -> KeyRotations {
    let output_folder = config.data_dir.join("output");
    let locations = key_locations(config);
    KeyRotations::new(stored, &Clock::system(), locations, output_folder, authentication)
}

/// Writes a backup, while the server runs or is stopped.
///
/// # Errors
/// The reason why not, as a sentence for the operator.
pub async fn back_up(
    config: &Config,
    file: &Path,
    with_keys: bool,
) -> anyhow::Result<BackupContents> {
    let password = read_password(config)?;
    let location = data_location(config, password.as_ref());
    let keys = key_locations(config);
    anyhow::ensure!(
        with_keys || !keys.is_rotating(),
        "a rotation of the master key was interrupted, so the backup would need two keys; finish it with \
         `muster-server rotate-master-key`, or use --with-keys"
    );
    let keys = with_keys.then_some(keys);
    let done = backup::back_up(file, location, keys, &Clock::system()).await;
    done.context("failed to write the backup")
}

/// Restores a backup into an empty data directory and database.
///
/// # Errors
/// The reason why not, as a sentence for the operator.
pub async fn restore(config: &Config, file: &Path) -> anyhow::Result<BackupContents> {
    let password = read_password(config)?;
    let location = data_location(config, password.as_ref());
    let done = restore::restore(file, location, &Clock::system()).await;
    done.context("failed to restore the backup")
}

fn data_location<'a>(
    config: &'a Config,
    password: Option<&'a Zeroizing<String>>,
) -> DataLocation<'a> {
    DataLocation {
        data_dir: &config.data_dir,
        database_url: &config.database_url,
        password: password.map(|password| password.as_str()),
    }
}

async fn bootstrap(services: &Services, config: &Config) -> anyhow::Result<()> {
    let chosen = std::env::var("MUSTER_BOOTSTRAP_KEY").ok().filter(|key| !key.is_empty());
    let made = services
        .authentication
        .bootstrap(&config.data_dir, chosen.as_deref())
        .await
        .context("failed to create the first API key")?;
    if let Some(key) = made {
        let path = config.data_dir.join("bootstrap_key");
        tracing::info!(file = %path.display(), "created the first owner API key");
        print_at_terminal(&format!("First API key (also in {}): {key}", path.display()));
    }
    let token = services.setup.open(&config.data_dir).await.context("failed to open set-up")?;
    if let Some(token) = token {
        let path = config.data_dir.join(TOKEN_FILE);
        tracing::info!(file = %path.display(), "this server has no owner; create one with the set-up token, which works once");
        print_at_terminal(&format!("Set-up token (also in {}): {token}", path.display()));
    }
    Ok(())
}

/// Secrets are only shown to a person, and never logged.
fn print_at_terminal(text: &str) {
    if std::io::stdout().is_terminal() {
        // A closed terminal must not stop the server.
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

fn drain(hub: &Hub, spread_ms: u64) {
    let random = SystemRandom::new();
    hub.drain(|| {
        let mut bytes = [0; 8];
        // Without randomness all agents reconnect at once, which the server handles too.
        let _ = random.fill(&mut bytes);
        u64::from_le_bytes(bytes) % spread_ms.max(1)
    });
}

async fn stop_signal() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("failed to wait for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to wait for signals")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "TERM",
        _ = interrupt.recv() => "INT",
    })
}
