//! Ports of this host, for programs that can't choose one by themselves.

use std::net::{TcpListener, TcpStream};

/// A port of 127.0.0.1 that nobody listens on just now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
    listener.local_addr().expect("a bound port has an address").port()
}

/// True once somebody takes connections there.
pub fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
