//! Bodies and views of the library.

use muster_protocol::library::{ParameterKind, ScriptParameter, ScriptSignature};
use muster_protocol::object::Object;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::fleet::target::TargetSpec;
use crate::domain::ids::{PrincipalId, ScriptId};
use crate::domain::time::Timestamp;
use crate::http::views::stored_json;
use crate::services::library::{
    ScriptContentRequest, ScriptRequest, ScriptSnapshot, VersionDiff, VersionSnapshot,
};

/// A new script.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateScriptBody {
    /// 1 to 128 of letters, digits, `.`, `_`, `-`, without a dot at the start. It never changes, because publishers sign it.
    name: String,
    /// Parts with `/` between them; without it, the top.
    folder: Option<String>,
    tags: Option<Vec<String>>,
    description: Option<String>,
    /// Where people usually run it.
    #[schema(value_type = Option<TargetSpec>)]
    default_target: Option<Object<TargetSpec>>,
    /// The text of the script: at most 256 KiB.
    body: String,
    /// `sh`, `bash`, `python`, `node`, `powershell`, the name of another program, or its full path.
    #[schema(example = "sh")]
    interpreter: String,
    #[serde(default)]
    parameters: Vec<ScriptParameterView>,
    /// How long an execution may run: at most 7 days, default 1 h. A request can shorten it.
    timeout_ms: Option<u64>,
    /// The script has a trigger, which decides in each call of a schedule whether main runs.
    #[serde(default)]
    has_trigger: bool,
    /// The packages that a script needs: a `requirements.txt` for `python`, or a `package.json` for `node`. At most
    /// 16 KiB.
    requirements: Option<String>,
    /// Why it was saved.
    message: Option<String>,
}

/// Changes to a script. Missing fields keep their values.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateScriptBody {
    /// Parts with `/` between them; empty moves it to the top.
    folder: Option<String>,
    tags: Option<Vec<String>>,
    description: Option<String>,
    /// Where people usually run it; `null` removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<TargetSpec>)]
    default_target: Option<Option<Object<TargetSpec>>>,
    /// The version that runs if a request names none.
    current_version: Option<u32>,
    /// The latest version that the caller knows. If it is not the latest any more, nothing is changed.
    expected_version: Option<u32>,
}

/// What a version runs.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptVersionBody {
    /// The text of the script: at most 256 KiB.
    body: String,
    /// `sh`, `bash`, `python`, `node`, `powershell`, the name of another program, or its full path.
    #[schema(example = "sh")]
    interpreter: String,
    #[serde(default)]
    parameters: Vec<ScriptParameterView>,
    /// How long an execution may run: at most 7 days, default 1 h. A request can shorten it.
    timeout_ms: Option<u64>,
    /// The script has a trigger, which decides in each call of a schedule whether main runs.
    #[serde(default)]
    has_trigger: bool,
    /// The packages that a script needs: a `requirements.txt` for `python`, or a `package.json` for `node`. At most
    /// 16 KiB.
    requirements: Option<String>,
    /// Why it was saved.
    message: Option<String>,
    /// False keeps the current version, for example until the new one is signed. Default true.
    make_current: Option<bool>,
    /// The latest version that the caller knows. If it is not the latest any more, nothing is saved.
    expected_version: Option<u32>,
}

/// One parameter. The script gets it as an environment variable.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptParameterView {
    #[schema(example = "SERVICE")]
    name: String,
    /// `string` (default), `integer`, `boolean`, `choice` or `secret`.
    #[serde(default, rename = "type")]
    kind: ParameterType,
    /// A request without a value is refused, unless there is a default.
    #[serde(default)]
    required: bool,
    /// The value if the request has none. A secret has none.
    #[serde(default)]
    default: Option<String>,
    /// The values of a `choice`.
    #[serde(default)]
    choices: Vec<String>,
    /// A regular expression that the whole value must match, for `string` and `secret`: at most 256 bytes.
    #[serde(default)]
    pattern: Option<String>,
    /// For people.
    #[serde(default)]
    help: Option<String>,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ParameterType {
    #[default]
    String,
    Integer,
    Boolean,
    Choice,
    Secret,
    File,
}

/// What a publisher has signed about a version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScriptSignatureBody {
    /// JSON, byte for byte as it was signed.
    statement: String,
    /// base64, by the publisher's key pair.
    signature: String,
}

/// A script of the library, with what its current version runs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LibraryScriptView {
    id: ScriptId,
    #[schema(example = "disk-report")]
    name: String,
    folder: String,
    tags: Vec<String>,
    description: String,
    #[schema(value_type = Option<TargetSpec>)]
    default_target: Option<Value>,
    /// The version that runs if a request names none.
    current_version: u32,
    /// The highest number.
    latest_version: u32,
    interpreter: String,
    parameters: Vec<ScriptParameterView>,
    timeout_ms: Option<u64>,
    has_trigger: bool,
    /// A `requirements.txt` or a `package.json`.
    requirements: Option<String>,
    /// Hex SHA-256 of the text.
    sha256: String,
    created_by: PrincipalId,
    created_at: Timestamp,
    changed_at: Timestamp,
}

/// A version of a script.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ScriptVersionView {
    version: u32,
    /// It runs if a request names none.
    is_current: bool,
    interpreter: String,
    parameters: Vec<ScriptParameterView>,
    timeout_ms: Option<u64>,
    has_trigger: bool,
    /// A `requirements.txt` or a `package.json`.
    requirements: Option<String>,
    /// Hex SHA-256 of the text.
    sha256: String,
    body_bytes: i64,
    /// Everything that decides what runs, JSON: what hosts get and publishers sign.
    document: String,
    /// Hex SHA-256 of the document.
    document_sha256: String,
    message: String,
    author_id: PrincipalId,
    /// Current name of the author.
    author_name: Option<String>,
    created_at: Timestamp,
    /// The text, only in the view of one version.
    body: Option<String>,
    /// Only in the view of one version.
    signatures: Vec<ScriptSignatureBody>,
}

/// The difference between two versions, as unified diffs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VersionDiffView {
    from: u32,
    to: u32,
    /// Of the texts; empty if they are equal.
    body: String,
    /// Of interpreter, parameters and timeout; empty if they are equal.
    document: String,
}

/// Distinguishes `null` from a missing field.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl CreateScriptBody {
    /// The name, what people see, and what the first version runs.
    pub(super) fn read(self) -> (String, ScriptRequest, ScriptContentRequest) {
        let request = ScriptRequest {
            folder: self.folder,
            tags: self.tags,
            description: self.description,
            default_target: self.default_target.map(|target| Some(target.0)),
            current_version: None,
            expected_version: None,
        };
        let content = ScriptContentRequest {
            body: self.body,
            interpreter: self.interpreter,
            parameters: self.parameters.into_iter().map(Into::into).collect(),
            timeout_ms: self.timeout_ms,
            has_trigger: self.has_trigger,
            requirements: self.requirements,
            message: self.message.unwrap_or_default(),
        };
        (self.name, request, content)
    }
}

impl ScriptVersionBody {
    /// What it runs, whether it becomes current, and the expected latest version.
    pub(super) fn read(self) -> (ScriptContentRequest, bool, Option<u32>) {
        let content = ScriptContentRequest {
            body: self.body,
            interpreter: self.interpreter,
            parameters: self.parameters.into_iter().map(Into::into).collect(),
            timeout_ms: self.timeout_ms,
            has_trigger: self.has_trigger,
            requirements: self.requirements,
            message: self.message.unwrap_or_default(),
        };
        (content, self.make_current.unwrap_or(true), self.expected_version)
    }
}

impl From<UpdateScriptBody> for ScriptRequest {
    fn from(body: UpdateScriptBody) -> Self {
        Self {
            folder: body.folder,
            tags: body.tags,
            description: body.description,
            default_target: body.default_target.map(|target| target.map(|target| target.0)),
            current_version: body.current_version,
            expected_version: body.expected_version,
        }
    }
}

impl From<ScriptSignatureBody> for ScriptSignature {
    fn from(body: ScriptSignatureBody) -> Self {
        Self { statement: body.statement, signature: body.signature }
    }
}

impl From<ScriptSignature> for ScriptSignatureBody {
    fn from(signature: ScriptSignature) -> Self {
        Self { statement: signature.statement, signature: signature.signature }
    }
}

impl From<ScriptParameterView> for ScriptParameter {
    fn from(view: ScriptParameterView) -> Self {
        let kind = match view.kind {
            ParameterType::String => ParameterKind::String,
            ParameterType::Integer => ParameterKind::Integer,
            ParameterType::Boolean => ParameterKind::Boolean,
            ParameterType::Choice => ParameterKind::Choice,
            ParameterType::Secret => ParameterKind::Secret,
            ParameterType::File => ParameterKind::File,
        };
        let (choices, pattern) = (view.choices, view.pattern);
        let (name, required, default, help) = (view.name, view.required, view.default, view.help);
        Self { name, kind, required, default, choices, pattern, help }
    }
}

impl From<ScriptParameter> for ScriptParameterView {
    fn from(parameter: ScriptParameter) -> Self {
        let kind = match parameter.kind {
            ParameterKind::String => ParameterType::String,
            ParameterKind::Integer => ParameterType::Integer,
            ParameterKind::Boolean => ParameterType::Boolean,
            ParameterKind::Choice => ParameterType::Choice,
            ParameterKind::Secret => ParameterType::Secret,
            ParameterKind::File => ParameterType::File,
        };
        let ScriptParameter { name, required, default, choices, pattern, help, .. } = parameter;
        Self { name, kind, required, default, choices, pattern, help }
    }
}

pub(super) fn views(parameters: Vec<ScriptParameter>) -> Vec<ScriptParameterView> {
    parameters.into_iter().map(Into::into).collect()
}

impl From<ScriptSnapshot> for LibraryScriptView {
    fn from(script: ScriptSnapshot) -> Self {
        let ScriptSnapshot { row, current } = script;
        let content = current.content();
        let (interpreter, sha256) = content
            .as_ref()
            .map(|content| (content.interpreter.clone(), content.sha256.clone()))
            .unwrap_or_default();
        Self {
            id: row.id,
            name: row.name,
            folder: row.folder,
            tags: row.tags,
            description: row.description,
            default_target: row.default_target.as_deref().map(stored_json),
            current_version: row.current_version,
            latest_version: row.latest_version,
            interpreter,
            sha256,
            timeout_ms: content.as_ref().and_then(|content| content.timeout_ms),
            has_trigger: content.as_ref().is_some_and(|content| content.has_trigger),
            requirements: content.as_ref().and_then(|content| content.requirements.clone()),
            parameters: views(content.map(|content| content.parameters).unwrap_or_default()),
            created_by: row.created_by,
            created_at: row.created_at,
            changed_at: row.changed_at,
        }
    }
}

impl From<VersionSnapshot> for ScriptVersionView {
    fn from(version: VersionSnapshot) -> Self {
        let row = version.row;
        let content = row.content();
        let (interpreter, sha256) = content
            .as_ref()
            .map(|content| (content.interpreter.clone(), content.sha256.clone()))
            .unwrap_or_default();
        Self {
            version: row.version,
            is_current: version.is_current,
            interpreter,
            sha256,
            timeout_ms: content.as_ref().and_then(|content| content.timeout_ms),
            has_trigger: content.as_ref().is_some_and(|content| content.has_trigger),
            requirements: content.as_ref().and_then(|content| content.requirements.clone()),
            parameters: views(content.map(|content| content.parameters).unwrap_or_default()),
            body_bytes: row.body_bytes,
            document: row.document,
            document_sha256: version.document_sha256,
            message: row.message,
            author_id: row.author_id,
            author_name: version.author_name,
            created_at: row.created_at,
            body: version.body,
            signatures: version.signatures.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<VersionDiff> for VersionDiffView {
    fn from(diff: VersionDiff) -> Self {
        Self { from: diff.from, to: diff.to, body: diff.body, document: diff.document }
    }
}
