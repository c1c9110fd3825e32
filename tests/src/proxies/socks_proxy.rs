//! A SOCKS5 proxy (RFC 1928, 1929) that connects every request to one server, for any requested address. So a
//! server's name needs to exist nowhere, and nothing can reach the server at that name around the proxy.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the proxy does with those who connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocksBehaviour {
    /// Connects everybody.
    Open,
    /// Connects those who give [`SocksProxy::USER`] and the password.
    Login,
    /// Refuses every request with this reply.
    Refuse(u8),
    /// Reads and never answers.
    Hang,
}

/// A running proxy.
#[derive(Debug)]
pub struct SocksProxy {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct SocksRules {
    server: String,
    behaviour: SocksBehaviour,
    requests: Arc<Mutex<Vec<String>>>,
}

impl SocksProxy {
    pub const USER: &str = "office";
    pub const PASSWORD: &str = "open sesame";

    /// Starts a proxy in front of the server at this address (`HOST:PORT`).
    pub async fn start(server: &str, behaviour: SocksBehaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listen");
        let address = listener.local_addr().expect("a bound address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let rules =
            SocksRules { server: server.to_owned(), behaviour, requests: Arc::clone(&requests) };
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Each connection ends when one of its sides does.
                tokio::spawn(serve(rules.clone(), client));
            }
        });
        Self { address, requests, accepting }
    }

    /// The value of `ALL_PROXY` and similar variables, without user name and password.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// The same with these credentials: `USER:PASSWORD`.
    pub fn url_for(&self, scheme: &str, login: &str) -> String {
        format!("{scheme}://{login}@{}", self.address)
    }

    /// The same with the credentials that it accepts.
    pub fn url_with_login(&self, scheme: &str) -> String {
        self.url_for(scheme, &format!("{}:{}", Self::USER, Self::PASSWORD.replace(' ', "%20")))
    }

    /// The targets that it was asked for: `name:PORT` for a name, `[ADDRESS]:PORT` for an address.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no holder panics").clone()
    }
}

impl Drop for SocksProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(rules: SocksRules, mut client: TcpStream) -> io::Result<()> {
    let [_version, methods] = read(&mut client).await?;
    let offered = read_bytes(&mut client, methods).await?;
    if rules.behaviour == SocksBehaviour::Hang {
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await?;
        return Ok(());
    }
    let wanted = if rules.behaviour == SocksBehaviour::Login { 2 } else { 0 };
    if !offered.contains(&wanted) {
        return client.write_all(&[5, 0xff]).await;
    }
    client.write_all(&[5, wanted]).await?;
    if wanted == 2 {
        let [_version, length] = read(&mut client).await?;
        let user = read_bytes(&mut client, length).await?;
        let [length] = read(&mut client).await?;
        let password = read_bytes(&mut client, length).await?;
        let is_right =
            user == SocksProxy::USER.as_bytes() && password == SocksProxy::PASSWORD.as_bytes();
        client.write_all(&[1, u8::from(!is_right)]).await?;
        if !is_right {
            return Ok(());
        }
    }
    let requested = target(&mut client).await?;
    rules.requests.lock().expect("no holder panics").push(requested);
    if let SocksBehaviour::Refuse(reply) = rules.behaviour {
        return client.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    }
    let mut server = TcpStream::connect(&rules.server).await?;
    client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80]).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn target(client: &mut TcpStream) -> io::Result<String> {
    let [_version, _connect, _reserved, kind] = read(client).await?;
    let host = match kind {
        1 => format!("[{}]", IpAddr::from(read::<4>(client).await?)),
        4 => format!("[{}]", IpAddr::from(read::<16>(client).await?)),
        _ => {
            let [length] = read(client).await?;
            String::from_utf8_lossy(&read_bytes(client, length).await?).into_owned()
        }
    };
    let port = u16::from_be_bytes(read(client).await?);
    Ok(format!("{host}:{port}"))
}

async fn read<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn read_bytes(client: &mut TcpStream, length: u8) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length.into()];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}
