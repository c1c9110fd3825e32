//! Two hosts and the network between them: a server's, which the test reaches directly, and an
//! agent's, which reaches the server through the network alone.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::namespace::{Namespace, ip};
use super::shaper::{Conditions, Shaper};
use super::tun::Tun;
use crate::agents::agent::AgentOptions;
use crate::servers::server::ServerOptions;

const MAX_PACKET_BYTES: usize = 64 * 1024;

/// A network that works until it is dropped.
#[derive(Debug)]
pub struct Network {
    up: Arc<Direction>,
    down: Arc<Direction>,
    threads: Vec<JoinHandle<()>>,
    server: Namespace,
    agent: Namespace,
    subnet: String,
}

/// Packets of one direction.
#[derive(Debug)]
struct Direction {
    from: Arc<Tun>,
    to: Arc<Tun>,
    shaper: Mutex<Shaper>,
    /// Packets on their way, by arrival and number.
    travelling: Mutex<BTreeMap<(Instant, u64), Vec<u8>>>,
    departed: Condvar,
    is_over: AtomicBool,
    sent: AtomicU64,
    delivered: AtomicU64,
    /// Bytes of packets that were not lost, with their IP headers.
    carried_bytes: AtomicU64,
}

impl Network {
    /// A new network. `up`: from the agent to the server.
    pub fn new(up: Conditions, down: Conditions) -> Self {
        let (server, agent) = (Namespace::create(), Namespace::create());
        let number = subnet_number(server.name());
        let subnet = format!("10.{}.{}", 64 + number / 256, number % 256);
        let device = |side: &str| format!("mt{side}{:x}", std::process::id() * 8 + number % 8);
        let (near, far) = (device("h"), device("s"));
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", server.name()]);
        ip(&["addr", "add", &format!("{subnet}.1/30"), "dev", &near]);
        ip(&["link", "set", &near, "up"]);
        server.ip(&["addr", "add", &format!("{subnet}.2/30"), "dev", &far]);
        server.ip(&["link", "set", &far, "up"]);
        let attach = |namespace: &Namespace, side: &str, own: u8, peer: u8| {
            let name = device(side);
            let tun = Arc::new(Tun::create(&name));
            ip(&["link", "set", &name, "netns", namespace.name()]);
            let (own, peer) = (format!("{subnet}.{own}"), format!("{subnet}.{peer}"));
            namespace.ip(&["addr", "add", &own, "peer", &peer, "dev", &name]);
            namespace.ip(&["link", "set", &name, "up"]);
            (tun, name)
        };
        let (server_tun, _) = attach(&server, "t", 5, 6);
        let (agent_tun, agent_device) = attach(&agent, "u", 6, 5);
        agent.ip(&["route", "add", "default", "dev", &agent_device]);
        let direction = |from: &Arc<Tun>, to: &Arc<Tun>, conditions, seed| {
            Arc::new(Direction {
                from: Arc::clone(from),
                to: Arc::clone(to),
                shaper: Mutex::new(Shaper::new(conditions, seed)),
                travelling: Mutex::default(),
                departed: Condvar::new(),
                is_over: AtomicBool::new(false),
                sent: AtomicU64::new(0),
                delivered: AtomicU64::new(0),
                carried_bytes: AtomicU64::new(0),
            })
        };
        let up = direction(&agent_tun, &server_tun, up, 0x9e37_79b9);
        let down = direction(&server_tun, &agent_tun, down, 0x7f4a_7c15);
        let threads = [&up, &down]
            .into_iter()
            .flat_map(|direction| {
                let (one, other) = (Arc::clone(direction), Arc::clone(direction));
                [
                    std::thread::spawn(move || one.accept_packets()),
                    std::thread::spawn(move || other.deliver_packets()),
                ]
            })
            .collect();
        Self { up, down, threads, server, agent, subnet }
    }

    /// Puts a server on its side of the network.
    pub fn server(&self, options: ServerOptions) -> ServerOptions {
        let listen = format!("{}:0", self.server_host());
        options.listening(&listen).with_mounts(&self.server.enter("\"$@\""))
    }

    /// Puts an agent on its side of the network.
    pub fn agent(&self, options: AgentOptions) -> AgentOptions {
        options.with("MUSTER_INSECURE", "true").with_mounts(&self.agent.enter("run"))
    }

    /// The server's address, without a port.
    pub fn server_host(&self) -> String {
        format!("{}.2", self.subnet)
    }

    /// Changes the conditions of both directions.
    pub fn set(&self, up: Conditions, down: Conditions) {
        self.up.shaper.lock().expect("not poisoned").conditions = up;
        self.down.shaper.lock().expect("not poisoned").conditions = down;
    }

    /// Bytes that the agent's side has put on the network, with IP headers, repetitions included.
    pub fn carried_up(&self) -> u64 {
        self.up.carried_bytes.load(Ordering::Relaxed)
    }
}

impl Direction {
    fn accept_packets(&self) {
        let mut buffer = vec![0; MAX_PACKET_BYTES];
        while !self.is_over.load(Ordering::Relaxed) {
            let Some(packet) = self.from.read(&mut buffer) else { continue };
            let number = self.sent.fetch_add(1, Ordering::Relaxed);
            let mut shaper = self.shaper.lock().expect("not poisoned");
            let arrival = shaper.arrival(packet.len(), Instant::now());
            drop(shaper);
            if let Some(at) = arrival {
                self.carried_bytes.fetch_add(packet.len() as u64, Ordering::Relaxed);
                let mut travelling = self.travelling.lock().expect("not poisoned");
                travelling.insert((at, number), packet.to_vec());
                self.departed.notify_one();
            }
        }
    }

    fn deliver_packets(&self) {
        let mut travelling = self.travelling.lock().expect("not poisoned");
        while !self.is_over.load(Ordering::Relaxed) {
            let now = Instant::now();
            let next = travelling.first_key_value().map(|(key, _)| *key);
            let wait = match next {
                Some(key) if key.0 <= now => {
                    let packet = travelling.remove(&key).expect("just seen");
                    // A full interface drops it, as a network may.
                    if self.to.write(&packet).is_ok() {
                        self.delivered.fetch_add(1, Ordering::Relaxed);
                    }
                    continue;
                }
                Some((at, _)) => at - now,
                None => Duration::from_millis(50),
            };
            let wait = wait.min(Duration::from_millis(50));
            travelling = self.departed.wait_timeout(travelling, wait).expect("not poisoned").0;
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for direction in [&self.up, &self.down] {
            direction.is_over.store(true, Ordering::Relaxed);
        }
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the network failed");
        }
    }
}

/// A number for addresses that no other test of this machine uses at the same time.
fn subnet_number(namespace: &str) -> u32 {
    let digits = namespace.bytes().filter(u8::is_ascii_digit);
    digits.fold(7u32, |sum, digit| sum.wrapping_mul(31).wrapping_add(u32::from(digit))) % 16_000
}
