//! A script in a folder: `script.toml` and the file with its text.

use std::fs;
use std::path::{Path, PathBuf};

use muster_protocol::library::{MAX_SCRIPT_BYTES, ScriptParameter, sha256_hex};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::CliError;

/// The name of the description of a script.
pub const DESCRIPTION_FILE: &str = "script.toml";
/// Deepest folder that is searched for scripts.
const MAX_FOLDER_DEPTH: usize = 8;
/// Most scripts of one folder.
const MAX_LOCAL_SCRIPTS: usize = 1_000;

/// `script.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Default: the name of the folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The file with the text, in the same folder.
    pub file: String,
    pub interpreter: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub folder: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ScriptParameter>,
}

/// A script with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalScript {
    pub name: String,
    pub description: Description,
    pub body: String,
}

impl LocalScript {
    /// Reads the scripts of a folder, in the order of their names.
    ///
    /// # Errors
    /// [`CliError`] names the file.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>, CliError> {
        let mut scripts = Vec::new();
        find(folder, 0, &mut scripts)?;
        scripts.sort_by(|one, other| one.name.cmp(&other.name));
        if let Some(pair) = scripts.windows(2).find(|pair| pair[0].name == pair[1].name) {
            let text = format!("two scripts have the name `{}`", pair[0].name);
            return Err(CliError::Usage(text));
        }
        match scripts.is_empty() {
            true => Err(CliError::Usage(format!(
                "{} holds no folder with a {DESCRIPTION_FILE}",
                folder.display()
            ))),
            false => Ok(scripts),
        }
    }

    fn read(folder: &Path) -> Result<Self, CliError> {
        let path = folder.join(DESCRIPTION_FILE);
        let text = fs::read_to_string(&path).map_err(CliError::file("read", &path))?;
        let description: Description = toml::from_str(&text)
            .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
        let is_name = Path::new(&description.file).components().count() == 1
            && Path::new(&description.file).file_name().is_some();
        if !is_name {
            let text = format!("{}: `file` must be a file of this folder", path.display());
            return Err(CliError::Usage(text));
        }
        let file = folder.join(&description.file);
        let length = fs::metadata(&file).map_err(CliError::file("read", &file))?.len();
        if length > MAX_SCRIPT_BYTES as u64 {
            return Err(CliError::Usage(format!("{} is larger than 256 KiB", file.display())));
        }
        let body = fs::read_to_string(&file).map_err(CliError::file("read", &file))?;
        let own_name = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let own_name = own_name.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = description.name.clone().or(own_name).unwrap_or_default();
        Ok(Self { name, description, body })
    }

    /// Writes it to a folder of its own.
    ///
    /// # Errors
    /// [`CliError`] names the file.
    pub fn write(&self, folder: &Path) -> Result<(), CliError> {
        fs::create_dir_all(folder).map_err(CliError::file("create", folder))?;
        let text = toml::to_string_pretty(&self.description)
            .map_err(|error| CliError::Answer(error.to_string()))?;
        for (path, text) in [
            (folder.join(DESCRIPTION_FILE), &text),
            (folder.join(&self.description.file), &self.body),
        ] {
            fs::write(&path, text).map_err(CliError::file("write", &path))?;
        }
        Ok(())
    }

    /// The script as the server shows it, with the text of its current version.
    pub fn of_server(script: &Value, version: &Value) -> Result<Self, CliError> {
        let text = |value: &Value, field: &str| {
            value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let name = text(script, "name");
        let interpreter = text(version, "interpreter");
        let parameters = version.get("parameters").cloned().unwrap_or_default();
        let parameters: Vec<ScriptParameter> = serde_json::from_value(parameters)
            .map_err(|error| CliError::Answer(error.to_string()))?;
        let tags = script.get("tags").cloned().unwrap_or_default();
        let description = Description {
            file: format!("{name}{}", ending(&interpreter)),
            name: None,
            interpreter,
            description: text(script, "description"),
            folder: text(script, "folder"),
            tags: serde_json::from_value(tags).unwrap_or_default(),
            timeout_ms: version.get("timeout_ms").and_then(Value::as_u64),
            parameters,
        };
        Ok(Self { name, description, body: text(version, "body") })
    }

    /// True if the other one runs the same.
    pub fn runs_the_same(&self, other: &Self) -> bool {
        let (one, other) = ((&self.description, &self.body), (&other.description, &other.body));
        one.1 == other.1
            && one.0.interpreter == other.0.interpreter
            && one.0.parameters == other.0.parameters
            && one.0.timeout_ms == other.0.timeout_ms
    }

    /// True if people see the same of the other one.
    pub fn shows_the_same(&self, other: &Self) -> bool {
        let sorted = |tags: &[String]| {
            let mut tags = tags.to_vec();
            tags.sort_unstable();
            tags.dedup();
            tags
        };
        let (one, other) = (&self.description, &other.description);
        one.folder == other.folder
            && one.description == other.description
            && sorted(&one.tags) == sorted(&other.tags)
    }

    /// The fields of a version.
    pub fn content(&self, message: Option<&str>) -> Value {
        json!({
            "body": self.body, "interpreter": self.description.interpreter,
            "parameters": self.description.parameters, "timeout_ms": self.description.timeout_ms,
            "message": message,
        })
    }

    /// The fields that people see.
    pub fn metadata(&self) -> Value {
        json!({
            "folder": self.description.folder, "tags": self.description.tags,
            "description": self.description.description,
        })
    }

    /// Hex SHA-256 of the text.
    pub fn sha256(&self) -> String {
        sha256_hex(self.body.as_bytes())
    }
}

fn find(folder: &Path, depth: usize, found: &mut Vec<LocalScript>) -> Result<(), CliError> {
    if folder.join(DESCRIPTION_FILE).is_file() {
        found.push(LocalScript::read(folder)?);
        if found.len() > MAX_LOCAL_SCRIPTS {
            return Err(CliError::Usage("the folder has more than 1000 scripts".into()));
        }
        return Ok(());
    }
    if depth == MAX_FOLDER_DEPTH {
        return Ok(());
    }
    let entries = fs::read_dir(folder).map_err(CliError::file("list", folder))?;
    let folders = entries.flatten().filter(|entry| {
        // A link may lead anywhere, also back.
        entry.file_type().is_ok_and(|kind| kind.is_dir())
            && !entry.file_name().to_string_lossy().starts_with('.')
    });
    let mut folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
    folders.sort_unstable();
    folders.iter().try_for_each(|folder| find(folder, depth + 1, found))
}

fn ending(interpreter: &str) -> &'static str {
    match interpreter {
        "sh" | "bash" => ".sh",
        "python" => ".py",
        "node" => ".js",
        "powershell" => ".ps1",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_that_is_written_is_read_again_as_it_was() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let description = Description {
            file: "a.sh".into(),
            interpreter: "sh".into(),
            tags: vec!["ops".into()],
            parameters: vec![ScriptParameter {
                default: Some("5".into()),
                ..ScriptParameter::named("LINES")
            }],
            ..Description::default()
        };
        let script = LocalScript { name: "a".into(), description, body: "echo \"ü\"\n".into() };
        script.write(&folder.path().join("deep/a")).expect("written");
        assert_eq!(LocalScript::read_all(folder.path()).expect("read"), [script]);
    }

    #[test]
    fn a_description_that_leaves_its_folder_or_has_unknown_fields_is_refused() {
        for text in [
            "file = \"../x\"\ninterpreter = \"sh\"",
            "file = \"/etc/passwd\"\ninterpreter = \"sh\"",
            "file = \"..\"\ninterpreter = \"sh\"",
            "file = \"a.sh\"\ninterpreter = \"sh\"\nmore = 1",
            "interpreter = \"sh\"",
        ] {
            let folder = tempfile::tempdir().expect("temporary folder");
            fs::write(folder.path().join(DESCRIPTION_FILE), text).expect("written");
            fs::write(folder.path().join("a.sh"), "x").expect("written");
            LocalScript::read_all(folder.path()).expect_err(text);
        }
    }
}
