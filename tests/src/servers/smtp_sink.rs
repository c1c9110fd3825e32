//! A mail server: it records each mail and reacts as the test sets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::authority::Authority;
use crate::wait::eventually;

/// What the mail server does with the next mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailReaction {
    Accept,
    /// The receiver is unknown: 550.
    Refuse,
    /// Try again later: 451.
    Defer,
    /// Takes the mail and never answers.
    Hang,
    /// Closes the connection after the mail.
    Drop,
}

/// A received mail.
#[derive(Debug, Clone)]
pub struct ReceivedMail {
    pub to: String,
    /// Headers and parts.
    pub text: String,
    /// Over TLS, and by whom: the text of `AUTH PLAIN`.
    pub is_secure: bool,
    pub authenticated: Option<String>,
}

#[derive(Debug)]
struct State {
    received: Mutex<Vec<ReceivedMail>>,
    attempts: Mutex<Vec<String>>,
    reaction: Mutex<MailReaction>,
}

/// A mail server on a port of this machine. It stops when dropped.
#[derive(Debug)]
pub struct SmtpSink {
    address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

impl ReceivedMail {
    /// The code or token of the mail, which is alone in a line of the plain text.
    pub fn secret(&self) -> &str {
        let mut lines = self.text.lines();
        let line = lines.find_map(|line| line.strip_prefix("    "));
        line.unwrap_or_else(|| panic!("a mail with a secret: {}", self.text)).trim()
    }
}

impl SmtpSink {
    /// A mail server without encryption.
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// A mail server that takes mails only after STARTTLS, with a certificate of this authority.
    pub async fn secured(authority: &Authority) -> Self {
        let files = authority.installed();
        let chain = CertificateDer::from_pem_file(files.chain).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(files.key).expect("a key");
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![chain], key).expect("a configuration");
        Self::serve(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn serve(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State {
            received: Mutex::default(),
            attempts: Mutex::default(),
            reaction: Mutex::new(MailReaction::Accept),
        });
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move { converse(stream, tls, &state).await });
            }
        });
        Self { address, state, serving }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from now on.
    pub fn react(&self, reaction: MailReaction) {
        *locked(&self.state.reaction) = reaction;
    }

    /// The mails that it took, oldest first.
    pub fn received(&self) -> Vec<ReceivedMail> {
        locked(&self.state.received).clone()
    }

    /// The receivers of all attempts.
    pub fn attempts(&self) -> Vec<String> {
        locked(&self.state.attempts).clone()
    }

    /// Waits for so many mails to a receiver, and returns the last one.
    pub async fn mail(&self, to: &str, count: usize) -> ReceivedMail {
        eventually(&format!("mail {count} arrives at {to}"), async || {
            let of: Vec<_> = self.received().into_iter().filter(|mail| mail.to == to).collect();
            (of.len() >= count).then(|| of[count - 1].clone())
        })
        .await
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection. A client that breaks off ends it.
async fn converse(stream: TcpStream, tls: Option<TlsAcceptor>, state: &State) {
    let mut plain = BufReader::new(stream);
    if plain.write_all(b"220 sink ESMTP\r\n").await.is_err() {
        return;
    }
    let Some(acceptor) = tls else {
        let _ = dialogue(&mut plain, false, false, state).await;
        return;
    };
    // Everything but STARTTLS needs encryption.
    if dialogue(&mut plain, true, false, state).await != Some(()) {
        return;
    }
    if let Ok(secured) = acceptor.accept(plain.into_inner()).await {
        let _ = dialogue(&mut BufReader::new(secured), false, true, state).await;
    }
}

/// Answers commands. `Some` after STARTTLS, which only a server that needs it offers.
async fn dialogue<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    needs_tls: bool,
    is_secure: bool,
    state: &State,
) -> Option<()> {
    let (mut to, mut authenticated) = (String::new(), None);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let reaction = *locked(&state.reaction);
        let answer = match verb.as_str() {
            "EHLO" if needs_tls => "250-sink\r\n250 STARTTLS",
            "EHLO" => "250-sink\r\n250-AUTH PLAIN\r\n250 8BITMIME",
            "STARTTLS" if needs_tls => {
                stream.write_all(b"220 go\r\n").await.ok()?;
                return Some(());
            }
            "QUIT" => "221 bye",
            "RSET" | "NOOP" => "250 ok",
            _ if needs_tls => "530 STARTTLS first",
            "AUTH" => {
                authenticated = line.rsplit(' ').next().map(str::to_owned);
                "235 ok"
            }
            "MAIL" => "250 ok",
            "RCPT" => {
                let address = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                to = address.map(|(address, _)| address.to_owned()).unwrap_or_default();
                locked(&state.attempts).push(to.clone());
                match reaction {
                    MailReaction::Refuse => "550 no such user",
                    MailReaction::Defer => "451 try again later",
                    _ => "250 ok",
                }
            }
            "DATA" => {
                stream.write_all(b"354 go\r\n").await.ok()?;
                let text = data(stream).await?;
                match reaction {
                    MailReaction::Hang => std::future::pending().await,
                    MailReaction::Drop => return None,
                    _ => {}
                }
                let authenticated = authenticated.clone();
                let mail = ReceivedMail { to: to.clone(), text, is_secure, authenticated };
                locked(&state.received).push(mail);
                "250 taken"
            }
            _ => "500 what",
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        if verb == "QUIT" {
            return None;
        }
    }
}

/// A mail up to its single dot.
async fn data<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut text = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line.trim_end() == "." {
            // Long lines are quoted-printable.
            return Some(text.replace("=\r\n", "").replace("=3D", "="));
        }
        text.push_str(&line);
    }
}
