//! Tests of the harness: it notices what it must notice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use muster_tests::{Link, Script, TestDir, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[test]
fn process_left_in_a_test_dir_fails_the_test_and_is_killed() {
    let test_dir = TestDir::new();
    let mut left = Command::new("sleep")
        .arg("600")
        .current_dir(test_dir.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("start sleep");
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(test_dir)));
    let status = left.wait().expect("wait for it");
    assert!(dropped.is_err());
    assert!(!status.success(), "{status}");
}

#[test]
fn counting_script_prints_the_documented_output() {
    let test_dir = TestDir::new();
    let script = Script::counting("count", 120, 50, "0.01");
    muster_tests::install(test_dir.path(), &[script]);
    let printed = Command::new(test_dir.path().join("scripts/count.sh")).output().expect("run it");
    assert!(printed.stdout == Script::counted(120));
}

#[tokio::test]
async fn link_passes_blocks_and_cuts() {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("listen");
    let address = server.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"answered").await;
            // Stays open until the link cuts it.
            let _ = stream.read(&mut request).await;
        }
    });
    let link = Link::to(&address).await;
    let call = async |request: &str| {
        let address = link.url().replace("http://", "");
        let mut stream = TcpStream::connect(address).await.expect("reach the link");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = vec![0; 12];
        let length = stream.read(&mut answer).await.expect("read");
        answer.truncate(length);
        (stream, answer)
    };
    let upgrade = "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(call(upgrade).await.1, b"answered");
    link.block_upgrades(true);
    assert_eq!(call(upgrade).await.1, b"HTTP/1.1 403");
    let (mut plain, answer) = call("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!((answer.as_slice(), link.upgrades_blocked()), (b"answered".as_slice(), 1));
    link.cut();
    eventually("the connection ends", async || {
        (plain.read(&mut [0; 8]).await.unwrap_or(0) == 0).then_some(())
    })
    .await;
}
