//! Which layers, features and crates may use which: the tables that `layering` checks.

/// The layers of a crate from the lowest to the highest. A layer imports lower ones only; the names
/// of one row do not import each other.
pub type Layers = &'static [&'static [&'static str]];

pub const SERVER: Layers = &[
    &["domain", "fault", "metrics"],
    &["store", "hub", "adapters"],
    &["services"],
    &["http", "ws", "workers", "listener"],
    &["config"],
    &["boot", "main", "lib"],
];
pub const AGENT: Layers = &[
    &["log_output", "clock", "fault", "platform"],
    &["storage"],
    &["identity", "policy"],
    &["executions", "link"],
    &["commands"],
    &["config"],
    &["releases"],
    &["agent"],
    &["sessions"],
    &["subcommands"],
    &["main", "lib"],
];
pub const SUPERVISOR: Layers = &[
    &["policy", "fault_injection", "layout", "log", "settings"],
    &["platform", "reasons"],
    &["fatal_reason", "status", "update"],
    &["handover", "supervise"],
    &["main", "lib"],
];
pub const CLI: Layers = &[
    &["completion", "error", "interrupt", "exit_status", "reference"],
    &["context", "input", "output"],
    &["api", "explanation"],
    &["session"],
    &["listing"],
    &["commands"],
    &["cli"],
    &["main"],
];

/// The features of each layer of the server, from the one that imports none to the one that may
/// import all before it.
pub const FEATURES: [(&str, &[&str]); 6] = [
    ("domain", ORDER),
    ("store/entities", ORDER),
    ("store/queries", ORDER),
    ("store/writer", &["access", "commands", "sessions", "integrations"]),
    (
        "services",
        &[
            "access",
            "certificates",
            "fleet",
            "releases",
            "integrations",
            "library",
            "commands",
            "sessions",
            "schedules",
            "operations",
        ],
    ),
    (
        "http",
        &[
            "commands",
            "access",
            "certificates",
            "fleet",
            "sessions",
            "releases",
            "integrations",
            "library",
            "schedules",
            "operations",
        ],
    ),
];
pub const ORDER: &[&str] = &[
    "access",
    "certificates",
    "fleet",
    "library",
    "commands",
    "releases",
    "integrations",
    "schedules",
    "operations",
];

/// Crates that every layer may use.
pub const COMMON: [&str; 6] =
    ["muster_protocol", "serde", "serde_json", "thiserror", "tracing", "uuid"];
/// What each layer of the server may use beside them. `anyhow` and `clap` belong to the edge of the
/// process.
pub const SERVER_CRATES: [(&str, &[&str]); 15] = [
    (
        "domain",
        &[
            "chrono",
            "chrono_tz",
            "croner",
            "data_encoding",
            "ipnet",
            "http_range_header",
            "httpdate",
            "ring",
            "similar",
            "strsim",
            "strum",
            "toml",
            "totp_rs",
            "url",
            "utoipa",
            "winnow",
            "zeroize",
        ],
    ),
    ("metrics", &["prometheus_client"]),
    ("fault", &["nix"]),
    (
        "store",
        &[
            "bytes",
            "crc32fast",
            "data_encoding",
            "futures_util",
            "nix",
            "sea_orm",
            "sea_orm_migration",
            "strum",
            "tokio",
            "utoipa",
            "zstd",
        ],
    ),
    ("hub", &["tokio"]),
    (
        "adapters",
        &[
            "chrono",
            "data_encoding",
            "lettre",
            "nix",
            "openidconnect",
            "reqwest",
            "ring",
            "tokio",
            "url",
            "webauthn_rs",
            "zeroize",
            "zstd",
        ],
    ),
    (
        "services",
        &[
            "argon2",
            "bytes",
            "data_encoding",
            "futures_util",
            "governor",
            "minijinja",
            "moka",
            "rcgen",
            "ring",
            "strsim",
            "strum",
            "sysinfo",
            "tokio",
            "toml",
            "zeroize",
        ],
    ),
    (
        "http",
        &[
            "askama",
            "axum",
            "data_encoding",
            "futures_util",
            "rust_embed",
            "strum",
            "tokio",
            "tower_http",
            "utoipa",
            "utoipa_axum",
            "utoipa_swagger_ui",
            "zeroize",
        ],
    ),
    ("ws", &["axum", "futures_util", "tokio", "tokio_tungstenite"]),
    ("workers", &["anyhow", "tokio", "tokio_cron_scheduler"]),
    (
        "listener",
        &[
            "axum",
            "governor",
            "hyper",
            "hyper_util",
            "nix",
            "ring",
            "rustls",
            "tokio",
            "tokio_rustls",
            "tower",
            "tower_http",
        ],
    ),
    ("config", &["clap", "toml"]),
    ("boot", &["anyhow", "ring", "tokio", "zeroize"]),
    (
        "main",
        &[
            "anyhow",
            "clap",
            "ring",
            "rpassword",
            "rustls",
            "tokio",
            "tracing_subscriber",
            "zeroize",
        ],
    ),
    ("lib", &[]),
];

/// Imports that break a rule, each with its reason.
pub const EXCEPTIONS: [(&str, &str, &str); 1] = [(
    "server/config",
    "services",
    "settings of the services are read where they are put together",
)];

/// Folders of the layers in [`FEATURES`] that are no features.
pub const NOT_FEATURES: [(&str, &str); 3] =
    [("domain", "outbound"), ("domain", "waves"), ("http", "openapi")];
