//! Ports of this host, for programs that cannot choose one themselves.

use std::net::{TcpListener, TcpStream};

use tokio::net::{TcpListener as Listener, TcpSocket};

/// A port of 127.0.0.1 on which no process listens at this moment.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
    listener.local_addr().expect("a bound port has an address").port()
}

/// A port of 127.0.0.1 that refuses connections while this value exists: the port is bound, but not
/// listened on.
#[derive(Debug)]
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    /// Binds a port.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("make a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("bind a port");
        Self(socket)
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.0.local_addr().expect("a bound port has an address").port()
    }

    /// Starts to listen, without releasing the port.
    pub fn open(self) -> Listener {
        self.0.listen(128).expect("listen")
    }
}

impl Default for ClosedPort {
    fn default() -> Self {
        Self::new()
    }
}

/// True if a process listens on this port.
pub fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
