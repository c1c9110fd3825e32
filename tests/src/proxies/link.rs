//! A network between agent and server that a test can break: cut, silence or refuse connections, or
//! block WebSocket upgrades as some proxies do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const MAX_HEAD_BYTES: usize = 16 * 1024;
const BLOCKED: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 24\r\nconnection: close\r\n\r\nupgrades are not allowed";

/// A listening address that forwards everything to the server, unless the test changes that.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    rules: Arc<LinkRules>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct LinkRules {
    server: String,
    refuse: AtomicBool,
    block_upgrades: AtomicBool,
    upgrades_blocked: AtomicUsize,
    /// True while nothing is forwarded and connections stay open.
    silent: watch::Sender<bool>,
    downloads: Mutex<Downloads>,
    /// How long a connection may be quiet, in milliseconds; zero: for ever.
    quiet_ms: AtomicU64,
    connections: AtomicUsize,
    /// Increases at each cut. Connections that were opened before it end.
    cuts: watch::Sender<u64>,
}

/// The treatment of connections whose first request is the download of a release.
#[derive(Debug, Default)]
struct Downloads {
    /// The next connections end after this many bytes of the answer. Later ones are not cut.
    cuts: VecDeque<u64>,
    /// No byte is forwarded.
    is_dead: bool,
    /// The start of each range that was requested, in order.
    resumed_at: Vec<u64>,
}

impl Link {
    /// Opens a link to the server at this address.
    pub async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("a bound address");
        let rules = Arc::new(LinkRules {
            server: server.to_owned(),
            refuse: AtomicBool::new(false),
            block_upgrades: AtomicBool::new(false),
            upgrades_blocked: AtomicUsize::new(0),
            silent: watch::Sender::new(false),
            cuts: watch::Sender::new(0),
            downloads: Mutex::default(),
            quiet_ms: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, rules.clone()));
        Self { address, rules, accepting }
    }

    /// Cuts connections over which nothing passed for so long, as some proxies do.
    pub fn cut_quiet_after(&self, quiet: Duration) {
        let quiet_ms = u64::try_from(quiet.as_millis()).expect("a short time");
        self.rules.quiet_ms.store(quiet_ms, Ordering::SeqCst);
        self.cut();
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        self.rules.connections.load(Ordering::SeqCst)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks every open connection.
    pub fn cut(&self) {
        self.rules.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Refuses new connections and breaks the open ones, or accepts connections again.
    pub fn refuse(&self, refuse: bool) {
        self.rules.refuse.store(refuse, Ordering::SeqCst);
        if refuse {
            self.cut();
        }
    }

    /// Answers 403 to WebSocket upgrades and breaks open connections, or forwards upgrades again.
    pub fn block_upgrades(&self, block: bool) {
        self.rules.block_upgrades.store(block, Ordering::SeqCst);
        if block {
            self.cut();
        }
    }

    /// Cuts the next connections whose first request is a download of a release, each after this
    /// many bytes.
    pub fn cut_downloads_after(&self, bytes: impl IntoIterator<Item = u64>) {
        self.rules.downloads().cuts = bytes.into_iter().collect();
    }

    /// Forwards no byte of a release, or forwards them again.
    pub fn kill_downloads(&self, is_dead: bool) {
        self.rules.downloads().is_dead = is_dead;
    }

    /// Where interrupted downloads resumed.
    pub fn resumed_at(&self) -> Vec<u64> {
        self.rules.downloads().resumed_at.clone()
    }

    /// Number of upgrades that were answered with 403.
    pub fn upgrades_blocked(&self) -> usize {
        self.rules.upgrades_blocked.load(Ordering::SeqCst)
    }

    /// Forwards nothing and keeps connections open, as a lost route does; or forwards again.
    pub fn silence(&self, silent: bool) {
        self.rules.silent.send_replace(silent);
    }
}

impl LinkRules {
    fn downloads(&self) -> std::sync::MutexGuard<'_, Downloads> {
        self.downloads.lock().expect("no holder panics")
    }

    /// Number of bytes of the answer to forward, for a connection that starts with this request.
    fn passing(&self, head: &str) -> u64 {
        if !head.starts_with("get /install/releases/") {
            return u64::MAX;
        }
        let mut downloads = self.downloads();
        let range = head.split_once("\r\nrange: bytes=").and_then(|(_, rest)| rest.split_once('-'));
        downloads.resumed_at.extend(range.and_then(|(start, _)| start.parse::<u64>().ok()));
        match downloads.is_dead {
            true => 0,
            false => downloads.cuts.pop_front().unwrap_or(u64::MAX),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, rules: Arc<LinkRules>) {
    while let Ok((client, _)) = listener.accept().await {
        if rules.refuse.load(Ordering::SeqCst) {
            continue;
        }
        let rules = rules.clone();
        rules.connections.fetch_add(1, Ordering::SeqCst);
        let mut cuts = rules.cuts.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = cuts.changed() => {}
                // When one side ends for any reason, the other side is closed too.
                _ = forward(client, &rules) => {}
            }
        });
    }
}

async fn forward(mut client: TcpStream, rules: &LinkRules) -> std::io::Result<()> {
    let head = read_head(&mut client).await?;
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    if text.contains("upgrade: websocket") && rules.block_upgrades.load(Ordering::SeqCst) {
        rules.upgrades_blocked.fetch_add(1, Ordering::SeqCst);
        return client.write_all(BLOCKED).await;
    }
    let passing = rules.passing(&text);
    let mut server = TcpStream::connect(&rules.server).await?;
    server.write_all(&head).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let passed = Passed(Mutex::new(Instant::now()));
    tokio::select! {
        end = pump(from_client, to_server, u64::MAX, rules.silent.subscribe(), &passed) => end,
        end = pump(from_server, to_client, passing, rules.silent.subscribe(), &passed) => end,
        () = passed.quiet_for(rules.quiet_ms.load(Ordering::SeqCst)) => Ok(()),
    }
}

/// When bytes last passed.
struct Passed(Mutex<Instant>);

impl Passed {
    fn note(&self) {
        *self.0.lock().expect("not poisoned") = Instant::now();
    }

    async fn quiet_for(&self, quiet_ms: u64) {
        if quiet_ms == 0 {
            return std::future::pending().await;
        }
        let quiet = Duration::from_millis(quiet_ms);
        loop {
            let passed_at = *self.0.lock().expect("not poisoned");
            if passed_at.elapsed() >= quiet {
                return;
            }
            tokio::time::sleep_until((passed_at + quiet).into()).await;
        }
    }
}

async fn read_head(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") && head.len() < MAX_HEAD_BYTES {
        if client.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut passing: u64,
    mut silent: watch::Receiver<bool>,
    passed: &Passed,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        // An error means that the link was dropped, and this connection with it.
        if silent.wait_for(|silent| !silent).await.is_err() {
            return Ok(());
        }
        let length = length.min(usize::try_from(passing).unwrap_or(usize::MAX));
        to.write_all(&buffer[..length]).await?;
        passed.note();
        passing = passing.saturating_sub(length as u64);
        if passing == 0 {
            return Ok(());
        }
    }
}
