//! An agent that sends exactly the frames that a test gives it, over one WebSocket.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use muster_protocol::frame::Registration;
use muster_protocol::identity::{AgentKeyPair, Challenge};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

/// One connection to `/ws/agent`.
#[derive(Debug)]
pub struct FakeAgent {
    socket: WebSocketStream<Box<dyn Wire>>,
    /// The challenge of `connected`, and the agent key's id.
    challenge: Option<(Challenge, Uuid)>,
}

/// The stream under a WebSocket.
trait Wire: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Wire for T {}

/// How a server ended a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub code: u16,
    pub reason: String,
}

impl Closed {
    /// A close with this code and reason.
    pub fn new(code: u16, reason: &str) -> Self {
        Self { code, reason: reason.to_owned() }
    }
}

impl FakeAgent {
    /// Connects with the key in the query, as basic agents do.
    pub async fn connect(address: &str, key: &str) -> Self {
        Self::open(address, &format!("?api_key={key}"), None).await
    }

    /// Connects with the key in a header, as full agents do.
    pub async fn connect_with_header(address: &str, key: &str) -> Self {
        Self::open(address, "", Some(key)).await
    }

    /// Connects and registers as a basic agent. Returns when the session is open.
    pub async fn registered(address: &str, key: &str, hostname: &str) -> Self {
        let mut agent = Self::connect(address, key).await;
        agent.expect("connected").await;
        agent.register(json!({"hostname": hostname})).await;
        agent.expect("registered").await;
        agent
    }

    /// Connects and registers as a full agent with an empty ledger. Returns when commands may
    /// arrive. `data` has the fields that differ from those of a new host.
    pub async fn registered_full(address: &str, key: &str, data: Value) -> (Self, Value) {
        let mut agent = Self::connect_with_header(address, key).await;
        agent.expect("connected").await;
        agent.register(full_registration(data)).await;
        let registered = agent.expect("registered").await;
        agent.send(json!({"type": "inventory_end"})).await;
        (agent, registered)
    }

    /// Opens the WebSocket. The upgrade must succeed, even if the server rejects the key.
    pub async fn open(address: &str, query: &str, bearer: Option<&str>) -> Self {
        let stream = TcpStream::connect(address).await.expect("reach the server");
        Self::over(stream, address, query, bearer).await
    }

    /// [`FakeAgent::registered`], over an open connection.
    pub async fn registered_over<S>(stream: S, address: &str, key: &str) -> Self
    where
        S: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static,
    {
        let mut agent = Self::over(stream, address, &format!("?api_key={key}"), None).await;
        agent.expect("connected").await;
        agent.register(json!({"hostname": "over"})).await;
        agent.expect("registered").await;
        agent
    }

    /// [`FakeAgent::connect_with_header`], over an open connection.
    pub async fn connect_over<S>(stream: S, address: &str, key: &str) -> Self
    where
        S: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static,
    {
        Self::over(stream, address, "", Some(key)).await
    }

    async fn over<S>(stream: S, address: &str, query: &str, bearer: Option<&str>) -> Self
    where
        S: AsyncRead + AsyncWrite + Debug + Send + Unpin + 'static,
    {
        let mut request =
            format!("ws://{address}/ws/agent{query}").into_client_request().expect("a request");
        if let Some(key) = bearer {
            let value = format!("Bearer {key}").parse().expect("a header value");
            request.headers_mut().insert("authorization", value);
        }
        let stream: Box<dyn Wire> = Box::new(stream);
        let (socket, _) = client_async(request, stream).await.expect("upgrade to a WebSocket");
        Self { socket, challenge: None }
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Sends any text.
    pub async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.expect("send a frame");
    }

    /// Sends any message. The server may have closed the connection.
    pub async fn try_send(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        self.socket.send(message).await
    }

    /// Sends `register` with this data. A full agent proves a key pair that follows from its machine
    /// id, or from `key_seed` if there is one, unless `data` has a proof of its own.
    pub async fn register(&mut self, data: Value) {
        let data = match self.challenge {
            Some((challenge, agent_key_id)) => proven(data, &challenge, agent_key_id),
            None => data,
        };
        self.send(json!({"type": "register", "data": data})).await;
    }

    /// The next frame, or the close.
    pub async fn next(&mut self) -> Result<Value, Closed> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("a frame is JSON");
                    self.note_challenge(&frame);
                    return Ok(frame);
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(Closed::new(frame.code.into(), &frame.reason));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("unexpected message {other:?}"),
                Some(Err(_)) | None => return Err(Closed::new(1006, "")),
            }
        }
    }

    fn note_challenge(&mut self, frame: &Value) {
        let text = |name: &str| frame[name].as_str().unwrap_or_default();
        if let (Ok(challenge), Ok(id)) = (text("challenge").parse(), text("agent_key_id").parse()) {
            self.challenge = Some((challenge, id));
        }
    }

    /// The next frame, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.next().await.unwrap_or_else(|closed| panic!("{kind}, not {closed:?}"));
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// The close. Skips the frames before it.
    pub async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.next().await {
                return closed;
            }
        }
    }
}

/// The data of a full agent with the proof of its key pair; other data stays as it is.
pub fn proven(mut data: Value, challenge: &Challenge, agent_key_id: Uuid) -> Value {
    let seed = data.as_object_mut().and_then(|fields| fields.remove("key_seed"));
    let claims = serde_json::from_value(data.clone());
    let Ok(claims @ Registration { protocol: Some(_), proof: None, .. }) = claims else {
        return data;
    };
    let seed = seed.and_then(|seed| Some(seed.as_str()?.to_owned()));
    let pair = key_pair_of(&seed.or(claims.machine_id.clone()).unwrap_or_default());
    let claims = claims.prove(&pair, challenge, agent_key_id);
    data["public_key"] = json!(claims.public_key);
    data["proof"] = json!(claims.proof);
    data
}

/// The key pair of a simulated host: the same for the same seed.
pub fn key_pair_of(seed: &str) -> AgentKeyPair {
    AgentKeyPair::from_seed(&private_key_of(seed)).expect("a key pair")
}

/// The private half of [`key_pair_of`].
pub fn private_key_of(seed: &str) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, seed.as_bytes());
    digest.as_ref().try_into().expect("32 bytes")
}

/// The registration of a full agent on a new host, with the given fields replaced.
pub fn full_registration(fields: Value) -> Value {
    let mut data = json!({
        "hostname": "fake", "ip": "127.0.0.1", "version": "0.1.0", "os": "Linux", "arch": "x86_64",
        "protocol": 1, "ledger_id": Uuid::new_v4(), "acceptance_count": 0,
        "machine_id": Uuid::new_v4().simple().to_string(), "instance_id": Uuid::new_v4(),
        "highest_epoch": 0, "max_executions": 16, "policy": "manifest",
        "capabilities": ["ping", "info", "echo", "scripts", "execute"],
    });
    for (name, value) in fields.as_object().into_iter().flatten() {
        data[name] = value.clone();
    }
    data
}
