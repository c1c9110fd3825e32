//! One test for each class of hole that other software of this kind has had, against the real
//! programs. Each test is named after what was attacked.

mod authentication;
mod injection;
mod paths;

use std::path::Path;

use muster_tests::Fixture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A text that is code for shells, terminals, browsers, YAML and logs.
const HOSTILE: &str = "$(touch MARK)`touch MARK`;touch MARK|touch MARK&&touch MARK\n\
    - !!python/object/apply:os.system ['touch MARK']\r\nroot: true\u{1b}]0;owned\u{7}\u{1b}[2J\
    <script>alert(1)</script><img src=x onerror=alert(1)>\"'{{7*7}}${jndi:ldap://x/}%0a\\";
/// Ways to name a file outside of a folder.
const ESCAPES: [&str; 9] = [
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "../../../../etc/passwd",
    "..%252f..%252fetc%252fpasswd",
    "..%5c..%5cmaster.key",
    "%2fetc%2fpasswd",
    "....//....//etc/passwd",
    "..;/master.key",
    "%00",
];

/// The answer to exactly this request line: a client library would normalise the path first.
async fn raw(fixture: &Fixture, line: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(fixture.server.address()).await.expect("reach the server");
    let request = format!("{line} HTTP/1.1\r\nhost: m\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("ask");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

fn status_of(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn bearer(key: &str) -> String {
    format!("authorization: Bearer {key}\r\n")
}

/// Files of the data directory that no answer may contain, and a line of one of every Linux.
fn secrets(fixture: &Fixture) -> Vec<String> {
    let read = |name: &str| std::fs::read_to_string(fixture.server.data_dir().join(name));
    let files = ["bootstrap_key", "master.key"].map(|name| read(name).expect("read"));
    let mut secrets: Vec<_> = files.iter().map(|text| text.trim().to_owned()).collect();
    secrets.push("root:x:0:0".into());
    secrets
}

fn assert_no_mark(fixture: &Fixture) {
    let mut folders = vec![fixture.test_dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            assert!(entry.file_name() != "MARK", "a command was run in {}", folder.display());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    assert!(!Path::new("/MARK").exists() && !Path::new("MARK").exists(), "a command was run");
}
