//! The PostgreSQL clusters and databases of other tests.

use std::net::TcpStream;

use muster_tests::{PostgresCluster, PostgresDatabase, TestDir};

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

#[test]
fn test_databases_are_separate_and_dropped_with_their_tests() {
    let (one, other) = (PostgresDatabase::empty(), PostgresDatabase::empty());
    one.query("CREATE TABLE of_one_test ()");
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename = 'of_one_test'";
    assert_eq!((one.query(tables), other.query(tables)), (vec!["1".into()], vec!["0".into()]));
    let url = one.url();
    let name = url.rsplit('/').next().expect("a name");
    let databases = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(other.query(&databases), ["1"]);
    drop(one);
    assert_eq!(other.query(&databases), ["0"]);
}
