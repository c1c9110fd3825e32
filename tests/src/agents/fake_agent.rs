//! An agent that sends exactly the frames that a test gives it, over one WebSocket.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
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
        Self { socket }
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

    /// Sends `register` with this data.
    pub async fn register(&mut self, data: Value) {
        self.send(json!({"type": "register", "data": data})).await;
    }

    /// The next frame, or the close.
    pub async fn next(&mut self) -> Result<Value, Closed> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("a frame is JSON"));
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
