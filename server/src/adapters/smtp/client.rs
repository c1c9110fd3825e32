//! Sends mails to a mail server, or prints them for a demonstration.

use std::io::Write as _;
use std::time::Duration;

use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use muster_protocol::error_chain;
use zeroize::Zeroizing;

use super::settings::{InvalidSmtp, SmtpSettings, SmtpTls};

/// Connections to the mail server that stay open.
const MAX_KEPT_CONNECTIONS: u32 = 4;
/// How long a connection without mails stays open.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Status of a receiver or a message that the mail server refuses for good, unlike one of its settings.
const REFUSED_FOR_GOOD: std::ops::RangeInclusive<u16> = 550..=554;

/// A mail that is ready to be sent.
#[derive(Clone)]
pub struct OutgoingMail {
    /// Its receiver recognises a mail that was sent twice.
    pub id: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// Why a mail was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailProblem {
    /// The mail server will not take it later either.
    pub is_final: bool,
    /// A sentence for the operator, without the mail.
    pub error: String,
}

/// Sends mails. Cheap to clone.
#[derive(Clone)]
pub enum SmtpClient {
    /// No mail server is set.
    None,
    /// Prints to standard output.
    Print,
    Server {
        transport: AsyncSmtpTransport<Tokio1Executor>,
        from: Mailbox,
        timeout: Duration,
    },
}

impl SmtpClient {
    /// A client of a mail server. Connects when there is a mail.
    ///
    /// # Errors
    /// [`InvalidSmtp`] if the file with the authorities cannot be read.
    pub fn new(
        settings: &SmtpSettings,
        password: Option<Zeroizing<String>>,
    ) -> Result<Self, InvalidSmtp> {
        let mut parameters = TlsParameters::builder(settings.url.host.clone());
        if let Some(path) = &settings.ca_file {
            let text = std::fs::read(path)
                .map_err(|source| InvalidSmtp::File { path: path.clone(), source })?;
            let authority = Certificate::from_pem(&text).map_err(InvalidSmtp::Client)?;
            parameters = parameters.add_root_certificate(authority);
        }
        let parameters = parameters.build_rustls().map_err(InvalidSmtp::Client)?;
        let tls = match settings.url.tls {
            SmtpTls::Implicit => Tls::Wrapper(parameters),
            SmtpTls::StartTls => Tls::Required(parameters),
            SmtpTls::Plain => Tls::None,
        };
        let host = settings.url.host.as_str();
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .port(settings.url.port)
            .tls(tls)
            .timeout(Some(settings.timeout))
            .pool_config(PoolConfig::new().max_size(MAX_KEPT_CONNECTIONS).idle_timeout(KEPT_FOR));
        if let (Some(user), Some(password)) = (&settings.user, password) {
            builder = builder.credentials(Credentials::new(user.clone(), password.to_string()));
        }
        let (transport, from) = (builder.build(), settings.from.clone());
        Ok(Self::Server { transport, from, timeout: settings.timeout })
    }

    /// True if mails arrive somewhere.
    pub fn is_configured(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// True if mails leave this server for people's mailboxes.
    pub fn reaches_people(&self) -> bool {
        matches!(self, Self::Server { .. })
    }

    /// How long an attempt takes at most.
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Server { timeout, .. } => *timeout,
            Self::None | Self::Print => Duration::ZERO,
        }
    }

    /// Sends a mail once.
    ///
    /// # Errors
    /// [`MailProblem`].
    pub async fn send(&self, mail: OutgoingMail) -> Result<(), MailProblem> {
        match self {
            Self::None => Err(problem("no mail server is set")),
            Self::Print => {
                let OutgoingMail { to, subject, text, .. } = mail;
                let mut out = std::io::stdout().lock();
                writeln!(out, "mail to {to}: {subject}\n{text}")
                    .map_err(|_| problem("failed to print the mail"))
            }
            Self::Server { transport, from, timeout } => {
                let message = message(from, mail)?;
                let sent = tokio::time::timeout(*timeout, transport.send(message)).await;
                match sent {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => {
                        let status = error.status().map(u16::from);
                        let is_final =
                            status.is_some_and(|status| REFUSED_FOR_GOOD.contains(&status));
                        Err(MailProblem { is_final, error: error_chain(&error) })
                    }
                    Err(_) => Err(problem("the mail server did not answer in time")),
                }
            }
        }
    }
}

impl std::fmt::Debug for SmtpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SmtpClient")
    }
}

fn problem(error: &str) -> MailProblem {
    MailProblem { is_final: false, error: error.to_owned() }
}

fn message(from: &Mailbox, mail: OutgoingMail) -> Result<Message, MailProblem> {
    let unusable = |error: String| MailProblem { is_final: true, error };
    let to = mail.to.parse().map_err(|_| unusable("the address is not one".into()))?;
    let id = format!("<{}@{}>", mail.id, from.email.domain());
    let message = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(mail.subject)
        .message_id(Some(id))
        .multipart(MultiPart::alternative_plain_html(mail.text, mail.html));
    message.map_err(|error| unusable(error.to_string()))
}
