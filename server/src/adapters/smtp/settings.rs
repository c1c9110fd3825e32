//! Where mails are sent, and how.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lettre::message::Mailbox;
use url::{Host, Url};
use zeroize::Zeroizing;

/// How the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// From the start.
    Implicit,
    /// After `STARTTLS`, which the server must offer.
    StartTls,
    Plain,
}

/// A mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpUrl {
    pub host: String,
    pub port: u16,
    pub tls: SmtpTls,
    is_this_machine: bool,
}

/// A setting is invalid. Texts that may hold a password are not repeated.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSmtp {
    #[error(
        "`smtp_url` must be smtps://HOST, smtp://HOST or smtp+plain://HOST, with a port if it is another one"
    )]
    Url,
    #[error(
        "`smtp_url` must not name a user; set `smtp_user`, and `smtp_password_file` or MUSTER_SMTP_PASSWORD"
    )]
    UserInUrl,
    #[error("`smtp_from` must be an address such as muster@example.com")]
    From,
    #[error(
        "`smtp_user` needs encryption, because everybody on the way could read the password; use smtps:// or smtp://"
    )]
    PlainPassword,
    #[error("failed to read {}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error(
        "`smtp_user` is set without a password; set `smtp_password_file` or MUSTER_SMTP_PASSWORD"
    )]
    NoPassword,
    #[error("failed to prepare connections to the mail server")]
    Client(#[source] lettre::transport::smtp::Error),
}

impl SmtpUrl {
    /// Reads the setting.
    ///
    /// # Errors
    /// [`InvalidSmtp`].
    pub fn parse(text: &str) -> Result<Self, InvalidSmtp> {
        let url = Url::parse(text).map_err(|_| InvalidSmtp::Url)?;
        let (tls, default_port) = match url.scheme() {
            "smtps" => (SmtpTls::Implicit, 465),
            "smtp" => (SmtpTls::StartTls, 587),
            "smtp+plain" => (SmtpTls::Plain, 25),
            _ => return Err(InvalidSmtp::Url),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidSmtp::UserInUrl);
        }
        let is_only_host =
            matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        // The host of a scheme that is not of the web is not parsed as an address.
        let host = url.host_str().filter(|host| !host.is_empty() && is_only_host);
        let host = host.and_then(|host| Host::parse(host).ok()).ok_or(InvalidSmtp::Url)?;
        let is_this_machine = match &host {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let host = match host {
            Host::Ipv6(address) => address.to_string(),
            host => host.to_string(),
        };
        Ok(Self { host, port: url.port().unwrap_or(default_port), tls, is_this_machine })
    }
}

/// A mail server, and who uses it.
#[derive(Clone)]
pub struct SmtpSettings {
    pub url: SmtpUrl,
    pub from: Mailbox,
    pub user: Option<String>,
    /// Certificate authorities, in addition to the public ones.
    pub ca_file: Option<PathBuf>,
    /// Of one attempt.
    pub timeout: Duration,
}

impl SmtpSettings {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`InvalidSmtp`].
    pub fn new(
        url: SmtpUrl,
        from: &str,
        user: Option<String>,
        ca_file: Option<PathBuf>,
        timeout: Duration,
    ) -> Result<Self, InvalidSmtp> {
        let from: Mailbox = from.parse().map_err(|_| InvalidSmtp::From)?;
        if user.is_some() && url.tls == SmtpTls::Plain && !url.is_this_machine {
            return Err(InvalidSmtp::PlainPassword);
        }
        Ok(Self { url, from, user, ca_file, timeout })
    }

    /// The password: the text of the environment, or the content of the file.
    ///
    /// # Errors
    /// [`InvalidSmtp`] if it cannot be read, or if there is a user without a password.
    pub fn password(
        &self,
        text: Option<Zeroizing<String>>,
        file: Option<&Path>,
    ) -> Result<Option<Zeroizing<String>>, InvalidSmtp> {
        if self.user.is_none() {
            return Ok(None);
        }
        let read = |path: &Path| {
            let text = std::fs::read_to_string(path).map(Zeroizing::new);
            let source = |source| InvalidSmtp::File { path: path.to_owned(), source };
            text.map(|text| Zeroizing::new(text.trim_matches(['\r', '\n']).to_owned()))
                .map_err(source)
        };
        let password = match text {
            Some(text) => Some(text),
            None => file.map(read).transpose()?,
        };
        match password.filter(|password| !password.is_empty()) {
            Some(password) => Ok(Some(password)),
            None => Err(InvalidSmtp::NoPassword),
        }
    }
}

impl fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpSettings({}:{})", self.url.host, self.url.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_decides_encryption_and_port() {
        let parse = |text: &str| {
            let url = SmtpUrl::parse(text).expect("valid");
            (url.host, url.port, url.tls)
        };
        let host = || "mail.example".to_owned();
        assert_eq!(parse("smtps://mail.example"), (host(), 465, SmtpTls::Implicit));
        assert_eq!(parse("smtp://mail.example/"), (host(), 587, SmtpTls::StartTls));
        assert_eq!(parse("smtp+plain://mail.example:2525"), (host(), 2525, SmtpTls::Plain));
        for text in
            ["mail.example", "http://mail.example", "smtp://", "smtp://a/b", "smtp://a?tls=none"]
        {
            assert!(SmtpUrl::parse(text).is_err(), "{text}");
        }
        let secret = "smtp://user:secret@mail.example";
        let error = SmtpUrl::parse(secret).expect_err("a password in the URL");
        assert!(matches!(error, InvalidSmtp::UserInUrl) && !error.to_string().contains("secret"));
    }

    #[test]
    fn password_needs_encryption_unless_the_mail_server_is_this_machine() {
        let settings = |url: &str| {
            let (url, user) = (SmtpUrl::parse(url).expect("valid"), Some("muster".to_owned()));
            SmtpSettings::new(url, "muster@example.com", user, None, Duration::from_secs(1))
        };
        assert!(matches!(settings("smtp+plain://mail.example"), Err(InvalidSmtp::PlainPassword)));
        settings("smtp://mail.example").expect("encrypted");
        let local = settings("smtp+plain://127.0.0.1:25").expect("this machine");
        assert!(matches!(local.password(None, None), Err(InvalidSmtp::NoPassword)));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "a b\n").expect("written");
        let read = local.password(None, Some(&file)).expect("read").expect("a password");
        assert_eq!(read.as_str(), "a b");
        let error = SmtpSettings::new(
            SmtpUrl::parse("smtp://a").expect("valid"),
            "no address",
            None,
            None,
            Duration::ZERO,
        );
        assert!(matches!(error, Err(InvalidSmtp::From)));
    }
}
