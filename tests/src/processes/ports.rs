//! Ports of this host, for programs that can't choose one by themselves.

use std::net::{TcpListener, TcpStream};

use tokio::net::{TcpListener as Listener, TcpSocket};

/// A port of 127.0.0.1 that nobody listens on just now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
    listener.local_addr().expect("a bound port has an address").port()
}

/// A port of 127.0.0.1 that refuses connections for as long as this lives: it is taken, but nobody
/// listens.
#[derive(Debug)]
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    /// Takes one.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("make a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("bind a port");
        Self(socket)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.0.local_addr().expect("a bound port has an address").port()
    }

    /// Opens it, without letting go of it for a moment.
    pub fn open(self) -> Listener {
        self.0.listen(128).expect("listen")
    }
}

impl Default for ClosedPort {
    fn default() -> Self {
        Self::new()
    }
}

/// True once somebody takes connections there.
pub fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
