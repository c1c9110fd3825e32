//! Stop signals, the supervisor's own death, the service manager, and running as process 1.

#![cfg(target_os = "linux")]

mod harness;

use std::fs;
use std::os::unix::net::UnixDatagram;

use harness::{DEADLINE, Harness, children_of, eventually, is_alive, one_process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// An agent that reports the signals it gets and ends on TERM and INT only. `sleep` is a child, so
/// that the shell can run its traps while it waits.
const LISTENS: &str = r#"
sleep 1000 & child=$!
trap 'echo got TERM; kill $child; exit 5' TERM
trap 'echo got INT; kill $child; exit 5' INT
trap 'echo got HUP' HUP
echo ready
while :; do wait $child; done"#;

#[test]
fn term_and_int_are_forwarded_and_the_supervisor_exits_with_0() {
    for (signal, line) in [(Signal::SIGTERM, "got TERM"), (Signal::SIGINT, "got INT")] {
        let mut harness = Harness::new(LISTENS);
        let mut running = harness.start();
        running.run(1);
        assert_eq!(running.line(), "ready");
        running.signal(signal);
        assert_eq!(running.line(), line);
        assert_eq!(running.exit_code(), Some(0));
        assert_eq!(running.state(|_| true)["reason"], format!("stopped by {signal}"));
        assert_eq!(running.state(|_| true)["last_exit"]["code"], 5);
    }
}

#[test]
fn hup_is_forwarded_and_the_supervisor_keeps_running() {
    let mut harness = Harness::new(LISTENS);
    let mut running = harness.start();
    running.run(1);
    assert_eq!(running.line(), "ready");
    running.signal(Signal::SIGHUP);
    assert_eq!(running.line(), "got HUP");
    assert_eq!(running.state(|_| true)["state"], "running");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.line(), "got TERM");
    assert_eq!(running.exit_code(), Some(0));
    assert_eq!(running.state(|_| true)["reason"], "stopped by SIGTERM", "and not by the SIGHUP");
}

#[test]
fn agent_that_does_not_stop_in_time_is_killed_and_its_execution_keeps_running() {
    // The execution ends once the test opens the pipe that it reads.
    let mut harness = Harness::new(
        r#"trap '' TERM
setsid sh -c 'echo child $$; trap "" TERM; read line < hold; echo child read $line' &
read line < never"#,
    );
    for pipe in ["hold", "never"] {
        nix::unistd::mkfifo(&harness.path(pipe), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    harness.set("MUSTER_STOP_GRACE_MS", "50");
    let mut running = harness.start();
    let agent = running.run(1);
    let child = child_of(&running.line());
    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit_code(), Some(0));
    assert!(!is_alive(agent));
    assert_eq!(running.state(|_| true)["last_exit"]["signal"], 9);
    assert!(is_alive(child));
    fs::write(harness.path("hold"), "on\n").unwrap();
    assert_eq!(running.line(), "child read on");
    assert!(running.rest_of_log().contains("killing it"));
}

#[test]
fn agent_ends_with_a_killed_supervisor_and_its_execution_keeps_running() {
    let mut harness = Harness::new(
        r#"trap 'echo got TERM; exit 0' TERM
setsid sh -c 'echo child $$; read line < hold; echo child read $line' &
while :; do wait; done"#,
    );
    nix::unistd::mkfifo(&harness.path("hold"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut running = harness.start();
    running.run(1);
    let child = child_of(&running.line());
    running.signal(Signal::SIGKILL);
    assert_eq!(running.ended().code(), None);
    assert_eq!(running.line(), "got TERM");
    assert!(is_alive(child));
    fs::write(harness.path("hold"), "on\n").unwrap();
    assert_eq!(running.line(), "child read on");
}

#[test]
fn agent_starts_with_no_signal_blocked_or_ignored() {
    let mut harness = Harness::new("grep -E '^Sig(Blk|Ign)' /proc/self/status; exit 0");
    let mut running = harness.start();
    running.run(1);
    // Higher bits are real-time signals, which belong to the C library.
    let standard = |line: String| {
        let (_, mask) = line.split_once(":\t").unwrap();
        u64::from_str_radix(mask, 16).unwrap() & 0x7fff_ffff
    };
    assert_eq!(standard(running.line()), 0, "blocked");
    assert_eq!(standard(running.line()), 0, "ignored");
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn service_manager_receives_ready_status_watchdog_and_stopping() {
    let mut harness = Harness::new(LISTENS);
    let socket = UnixDatagram::bind(harness.path("notify")).unwrap();
    let path = harness.path("notify").display().to_string();
    harness.set("NOTIFY_SOCKET", &path).set("WATCHDOG_USEC", "20000");
    check_service_manager_messages(&mut harness, &socket);
}

#[test]
fn service_manager_can_listen_on_an_abstract_socket() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;

    let mut harness = Harness::new(LISTENS);
    let name = harness.path("abstract").display().to_string();
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let socket = UnixDatagram::bind_addr(&address).unwrap();
    harness.set("NOTIFY_SOCKET", &format!("@{name}")).set("WATCHDOG_USEC", "20000");
    check_service_manager_messages(&mut harness, &socket);
}

fn check_service_manager_messages(harness: &mut Harness, socket: &UnixDatagram) {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let hear = |wanted: &str| {
        let mut heard = Vec::new();
        let mut bytes = [0; 4096];
        while !heard.iter().any(|message: &String| message.contains(wanted)) {
            let length =
                socket.recv(&mut bytes).unwrap_or_else(|_| panic!("{wanted} in {heard:?}"));
            heard.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
        }
        heard
    };
    let mut running = harness.start();
    running.run(1);
    assert!(hear("READY=1").contains(&"STATUS=first start".to_owned()));
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    assert_eq!(running.line(), "ready");
    running.signal(Signal::SIGTERM);
    hear("STOPPING=1");
    assert_eq!(running.exit_code(), Some(0));
}

#[test]
fn process_1_reaps_orphans_parks_after_exit_0_and_stops_on_a_signal() {
    // The first run leaves an orphan that ends only after its parent. The second run releases it
    // and waits until it is reaped.
    let script = r#"
if [ $n = 1 ]; then
  (read line < hold) & echo $! > orphan
  exit 42
fi
echo go > hold
while [ -e /proc/$(cat orphan) ]; do :; done
echo reaped
exit 0"#;
    let mut harness = Harness::as_init(script);
    nix::unistd::mkfifo(&harness.path("hold"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut running = harness.start();
    running.run(1);
    running.run(2);
    assert_eq!(running.line(), "reaped");
    let state = running.state(|state| state["state"] == "parked");
    assert_eq!(state["pid"], 1);
    assert_eq!(state["last_exit"]["code"], 0);
    let supervisor = children_of(running.pid())[0];
    assert!(running.child.try_wait().unwrap().is_none());
    kill(supervisor, Signal::SIGTERM).unwrap();
    assert_eq!(running.exit_code(), Some(0));
    assert_eq!(running.state(|_| true)["state"], "stopped");
}

#[test]
fn process_1_reaps_orphans_while_parked() {
    let script = "(read line < hold) & echo $!; exit 99";
    let mut harness = Harness::as_init(script);
    nix::unistd::mkfifo(&harness.path("hold"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut running = harness.start();
    running.run(1);
    running.line();
    running.state(|state| state["state"] == "parked");
    let supervisor = children_of(running.pid())[0];
    let orphan = eventually("the orphan is adopted", || children_of(supervisor).first().copied());
    fs::write(harness.path("hold"), "go\n").unwrap();
    eventually("the orphan is reaped", || (!is_alive(orphan)).then_some(()));
    kill(supervisor, Signal::SIGTERM).unwrap();
    assert_eq!(running.exit_code(), Some(0));
}

fn child_of(line: &str) -> Pid {
    let pid =
        line.strip_prefix("child ").unwrap_or_else(|| panic!("expected a child, got {line:?}"));
    one_process(pid)
}
