//! A script in a folder: `script.toml` and the file with its text.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use muster_protocol::library::{
    DOCUMENT_FORMAT, MAX_REQUIREMENTS_BYTES, MAX_SCRIPT_BYTES, ScriptDocument, ScriptParameter,
    check_body, is_script_folder, sha256_hex,
};
use muster_protocol::manifest::is_script_name;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::open_folder::OpenFolder;
use crate::error::CliError;
use crate::output::text::sanitize;

/// The name of the description of a script.
pub const DESCRIPTION_FILE: &str = "script.toml";
/// The file with the packages that a script in Python needs.
const REQUIREMENTS_FILE: &str = "requirements.txt";
/// … and the one for a script of Node.
const NODE_PACKAGES_FILE: &str = "package.json";
/// Deepest folder that is searched for scripts.
const MAX_FOLDER_DEPTH: usize = 8;
/// Most scripts of one folder.
const MAX_LOCAL_SCRIPTS: usize = 1_000;

/// The end of a sentence about a name or folder that can't be a path.
const INVALID_PATH: &str = "name and the parts of its folder must be 1 to 128 of letters, digits, `.`, `_`, `-`, \
     and must not start with a dot";

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
    /// Where people usually run it: an expression such as `tag:web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_target: Option<String>,
    /// The script has a trigger.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trigger: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ScriptParameter>,
}

/// A script with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalScript {
    pub name: String,
    pub description: Description,
    pub body: String,
    /// The text of its `requirements.txt` or `package.json`, if it has one.
    pub requirements: Option<String>,
}

/// Where the scripts of a working tree are, by their names.
pub type ScriptPlaces = BTreeMap<String, ScriptPlace>;

/// Where a script is in a working tree.
#[derive(Debug)]
pub struct ScriptPlace {
    /// From the outside to the inside.
    pub folders: Vec<OsString>,
    pub file: String,
    /// Absent if the folder's name is the script's.
    pub name: Option<String>,
}

impl LocalScript {
    /// Where the scripts of a folder are. Those that can't be read are left out.
    ///
    /// # Errors
    /// [`CliError`] if the folder can't be listed.
    pub fn places(root: &OpenFolder) -> Result<ScriptPlaces, CliError> {
        let mut places = ScriptPlaces::new();
        let mut folders: Vec<Vec<OsString>> = vec![Vec::new()];
        while let Some(path) = folders.pop() {
            let Some(folder) = open_at(root, &path)? else { continue };
            match Self::read(&folder) {
                Ok(Some(script)) => {
                    let Description { file, name, .. } = script.description;
                    places.insert(script.name, ScriptPlace { folders: path, file, name });
                }
                Ok(None) if path.len() < MAX_FOLDER_DEPTH => {
                    let inner = folder.folder_names()?.into_iter();
                    folders.extend(inner.map(|name| [path.as_slice(), &[name]].concat()));
                }
                Ok(None) | Err(_) => {}
            }
        }
        Ok(places)
    }

    /// The script of a folder within a working tree.
    ///
    /// # Errors
    /// As [`LocalScript::read`].
    pub fn read_at(root: &OpenFolder, folders: &[OsString]) -> Result<Option<Self>, CliError> {
        match open_at(root, folders)? {
            Some(folder) => Self::read(&folder),
            None => Ok(None),
        }
    }

    /// Writes it to a folder within a working tree.
    ///
    /// # Errors
    /// [`CliError`] names the file.
    pub fn write_at(&self, root: &OpenFolder, folders: &[OsString]) -> Result<(), CliError> {
        match open_at(root, folders)? {
            Some(folder) => self.write_into(&folder),
            None => Err(CliError::Usage("its folder is gone".into())),
        }
    }

    /// Reads the scripts of a folder, in the order of their names.
    ///
    /// # Errors
    /// [`CliError`] names the file.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>, CliError> {
        let mut scripts = Vec::new();
        find(&OpenFolder::open(folder)?, 0, &mut scripts)?;
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

    /// Reads the script of one folder.
    ///
    /// # Errors
    /// [`CliError`] names the file.
    pub fn read_one(folder: &Path) -> Result<Self, CliError> {
        let script = Self::read(&OpenFolder::open(folder)?)?;
        script.ok_or_else(|| {
            CliError::Usage(format!("{} has no {DESCRIPTION_FILE}", folder.display()))
        })
    }

    /// Reads the script of an open folder; `None` if it has none.
    ///
    /// # Errors
    /// [`CliError`] names the file.
    pub fn read(folder: &OpenFolder) -> Result<Option<Self>, CliError> {
        let path = folder.path().join(DESCRIPTION_FILE);
        let wrong = |problem: String| CliError::Usage(format!("{}: {problem}", path.display()));
        let Some(text) = folder.read(DESCRIPTION_FILE.as_ref(), MAX_SCRIPT_BYTES)? else {
            return Ok(None);
        };
        let description: Description =
            toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let file = &description.file;
        if file.is_empty() || file.starts_with('.') || file.contains('/') {
            return Err(wrong(
                "`file` must be a file of this folder, without a dot at the start".into(),
            ));
        }
        let Some(body) = folder.read(file.as_ref(), MAX_SCRIPT_BYTES)? else {
            return Err(wrong(format!("the folder has no file `{file}`")));
        };
        let own_name = folder.path().canonicalize().unwrap_or_else(|_| folder.path().to_owned());
        let own_name = own_name.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = description.name.clone().or(own_name).unwrap_or_default();
        let file = requirements_file(&description.interpreter);
        let requirements = folder.read(file.as_ref(), MAX_REQUIREMENTS_BYTES)?;
        let script = Self { name, description, body, requirements };
        match script.has_safe_path() {
            true => Ok(Some(script)),
            false => Err(wrong(INVALID_PATH.into())),
        }
    }

    /// Writes it to a folder of its own in this one.
    ///
    /// # Errors
    /// [`CliError`] names the file.
    pub fn write(&self, root: &OpenFolder) -> Result<(), CliError> {
        let mut folder = None;
        for part in self.parts() {
            folder = Some(folder.as_ref().unwrap_or(root).create_folder(part.as_ref())?);
        }
        self.write_into(folder.as_ref().unwrap_or(root))
    }

    fn write_into(&self, folder: &OpenFolder) -> Result<(), CliError> {
        let text = toml::to_string_pretty(&self.description)
            .map_err(|error| CliError::Answer(error.to_string()))?;
        folder.write(DESCRIPTION_FILE.as_ref(), &text)?;
        if let Some(requirements) = &self.requirements {
            let file = requirements_file(&self.description.interpreter);
            folder.write(file.as_ref(), requirements)?;
        }
        folder.write(self.description.file.as_ref(), &self.body)
    }

    /// What its folder in `root` has now.
    ///
    /// # Errors
    /// As [`LocalScript::read`].
    pub fn written(&self, root: &OpenFolder) -> Result<Option<Self>, CliError> {
        let mut folder: Option<OpenFolder> = None;
        for part in self.parts() {
            match folder.as_ref().unwrap_or(root).folder(part.as_ref())? {
                Some(inner) => folder = Some(inner),
                None => return Ok(None),
            }
        }
        Self::read(folder.as_ref().unwrap_or(root))
    }

    /// The folders of its path, from the outside to the inside.
    fn parts(&self) -> impl Iterator<Item = &str> {
        let folder = self.description.folder.split('/').filter(|part| !part.is_empty());
        folder.chain([self.name.as_str()])
    }

    fn has_safe_path(&self) -> bool {
        is_script_name(&self.name) && is_script_folder(&self.description.folder)
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
        let mut file = format!("{name}{}", ending(&interpreter));
        if [DESCRIPTION_FILE, REQUIREMENTS_FILE].iter().any(|name| file.eq_ignore_ascii_case(name))
        {
            file.push_str(".txt");
        }
        let description = Description {
            file,
            name: None,
            interpreter,
            description: text(script, "description"),
            folder: text(script, "folder"),
            tags: serde_json::from_value(tags).unwrap_or_default(),
            timeout_ms: version.get("timeout_ms").and_then(Value::as_u64),
            default_target: script["default_target"]["expression"].as_str().map(str::to_owned),
            trigger: version.get("has_trigger").and_then(Value::as_bool).unwrap_or_default(),
            parameters,
        };
        let requirements = version.get("requirements").and_then(Value::as_str).map(str::to_owned);
        let script = Self { name, description, body: text(version, "body"), requirements };
        // They become a path.
        match script.has_safe_path() {
            true => Ok(script),
            false => Err(CliError::Answer(format!("the script's {INVALID_PATH}"))),
        }
    }

    /// True if the other one runs the same.
    pub fn runs_the_same(&self, other: &Self) -> bool {
        let one = (&self.description, &self.body, &self.requirements);
        let other = (&other.description, &other.body, &other.requirements);
        one.1 == other.1
            && one.0.interpreter == other.0.interpreter
            && one.0.parameters == other.0.parameters
            && one.0.timeout_ms == other.0.timeout_ms
            && one.0.trigger == other.0.trigger
            && one.2 == other.2
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
            && one.default_target == other.default_target
            && sorted(&one.tags) == sorted(&other.tags)
    }

    /// The fields of a version.
    pub fn content(&self, message: Option<&str>) -> Value {
        json!({
            "body": self.body, "interpreter": self.description.interpreter,
            "parameters": self.description.parameters, "timeout_ms": self.description.timeout_ms,
            "has_trigger": self.description.trigger, "requirements": self.requirements,
            "message": message,
        })
    }

    /// The fields that people see.
    pub fn metadata(&self) -> Value {
        json!({
            "folder": self.description.folder, "tags": self.description.tags,
            "description": self.description.description,
            "default_target": self.description.default_target.as_ref().map(|expression| json!({"expression": expression})),
        })
    }

    /// The document of its version with this number, as hosts get it and publishers sign it.
    ///
    /// # Errors
    /// [`CliError::Usage`] names what breaks a rule.
    pub fn document(&self, version: u32) -> Result<ScriptDocument, CliError> {
        let wrong = |field: &str, problem: &str| {
            CliError::Usage(format!("`{}`: `{field}` {problem}", sanitize(&self.name)))
        };
        check_body(&self.body).map_err(|problem| wrong(&self.description.file, problem))?;
        let document = ScriptDocument {
            format: DOCUMENT_FORMAT,
            name: self.name.clone(),
            version,
            sha256: self.sha256(),
            interpreter: self.description.interpreter.clone(),
            parameters: self.description.parameters.clone(),
            timeout_ms: self.description.timeout_ms,
            has_trigger: self.description.trigger,
            requirements: self.requirements.clone(),
        };
        document.check().map_err(|(field, problem)| wrong(&field, &problem))?;
        Ok(document)
    }

    /// Hex SHA-256 of the text.
    pub fn sha256(&self) -> String {
        sha256_hex(self.body.as_bytes())
    }
}

/// A folder within a working tree; `None` if it is not there.
fn open_at(root: &OpenFolder, folders: &[OsString]) -> Result<Option<OpenFolder>, CliError> {
    let mut folder = OpenFolder::open(root.path())?;
    for name in folders {
        match folder.folder(name)? {
            Some(inner) => folder = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(folder))
}

fn find(folder: &OpenFolder, depth: usize, found: &mut Vec<LocalScript>) -> Result<(), CliError> {
    if let Some(script) = LocalScript::read(folder)? {
        found.push(script);
        if found.len() > MAX_LOCAL_SCRIPTS {
            return Err(CliError::Usage("the folder has more than 1000 scripts".into()));
        }
        return Ok(());
    }
    if depth == MAX_FOLDER_DEPTH {
        return Ok(());
    }
    for name in folder.folder_names()? {
        if let Some(inner) = folder.folder(&name)? {
            find(&inner, depth + 1, found)?;
        }
    }
    Ok(())
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

/// The file beside a script that names the packages that it needs.
fn requirements_file(interpreter: &str) -> &'static str {
    if interpreter == "node" { NODE_PACKAGES_FILE } else { REQUIREMENTS_FILE }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_script_that_is_written_is_read_again_as_it_was() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let description = Description {
            file: "a.sh".into(),
            interpreter: "sh".into(),
            folder: "deep".into(),
            tags: vec!["ops".into()],
            parameters: vec![ScriptParameter {
                default: Some("5".into()),
                ..ScriptParameter::named("LINES")
            }],
            ..Description::default()
        };
        let body = "echo \"ü\"\n".into();
        let requirements = Some("six\n".into());
        let script = LocalScript { name: "a".into(), description, body, requirements };
        script.write(&OpenFolder::open(folder.path()).expect("open")).expect("written");
        assert_eq!(LocalScript::read_all(folder.path()).expect("read"), [script]);
    }

    #[test]
    fn a_description_that_leaves_its_folder_or_has_unknown_fields_is_refused() {
        for text in [
            "file = \"../x\"\ninterpreter = \"sh\"",
            "file = \"/etc/passwd\"\ninterpreter = \"sh\"",
            "file = \"..\"\ninterpreter = \"sh\"",
            "file = \".env\"\ninterpreter = \"sh\"",
            "file = \"a.sh\"\ninterpreter = \"sh\"\nname = \"..\"",
            "file = \"a.sh\"\ninterpreter = \"sh\"\nname = \"a\"\nfolder = \"a/.git\"",
            "file = \"a.sh\"\ninterpreter = \"sh\"\nname = \"a\"\nmore = 1",
            "interpreter = \"sh\"",
        ] {
            let folder = tempfile::tempdir().expect("temporary folder");
            fs::write(folder.path().join(DESCRIPTION_FILE), text).expect("written");
            fs::write(folder.path().join("a.sh"), "x").expect("written");
            LocalScript::read_all(folder.path()).expect_err(text);
        }
    }
}
