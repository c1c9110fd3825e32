//! The throw-away PostgreSQL that other tests stand on.

use std::net::TcpStream;

use muster_tests::{PostgresCluster, TestDir};

#[test]
fn cluster_restarts_on_its_port() {
    let test_dir = TestDir::new();
    let mut postgres = PostgresCluster::start(&test_dir);
    let url = postgres.url();
    let address = url.split(['@', '/']).nth(3).expect("host and port").to_owned();
    assert!(TcpStream::connect(&address).is_ok(), "{address}");
    postgres.stop();
    assert!(TcpStream::connect(&address).is_err());
    postgres.resume();
    assert!(TcpStream::connect(&address).is_ok());
    assert_eq!(postgres.url(), url);
}
