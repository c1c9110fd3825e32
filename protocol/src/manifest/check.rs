//! The rules for a manifest. The host checks its file with them, and the server what hosts report.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::{Manifest, ManifestError, Script};
use crate::limits::{
    MAX_ARGV_BYTES, MAX_ARGV_WORDS, MAX_CHOICES, MAX_DESCRIPTION_CHARS, MAX_MANIFEST_SCRIPTS,
    MAX_PATH_BYTES, MAX_TIMEOUT_MS,
};
use crate::object;
use crate::parameter::{self, MAX_PARAMETERS, MAX_VALUE_BYTES, ParameterDeclaration};

impl Manifest {
    /// Checks everything that [`parse`](Self::parse) checks after the syntax.
    ///
    /// # Errors
    /// [`ManifestError`] for the first script that breaks a rule.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.scripts.len() > MAX_MANIFEST_SCRIPTS {
            return Err(ManifestError::TooMany);
        }
        let mut names = BTreeSet::new();
        for script in &self.scripts {
            script.check().map_err(|message| script.refused(message))?;
            if !names.insert(&script.name) {
                return Err(script.refused("the name is used twice".into()));
            }
        }
        Ok(())
    }
}

impl Script {
    fn refused(&self, message: String) -> ManifestError {
        ManifestError::Script { script: self.name.chars().take(128).collect(), message }
    }

    fn check(&self) -> Result<(), String> {
        if !is_script_name(&self.name) {
            return Err("the name must be 1 to 128 of letters, digits, `.`, `_`, `-`, and must not start with a dot".into());
        }
        if !is_inner_path(&self.path) {
            return Err(format!(
                "the path `{}` must be relative and stay in the scripts folder",
                object::cut(&self.path)
            ));
        }
        let texts = self.args.iter().chain(self.interpreter.iter()).chain([&self.path]);
        if texts.into_iter().any(|text| text.contains('\0')) {
            return Err("a path or argument contains a NUL byte".into());
        }
        if self.interpreter.as_deref() == Some("") {
            return Err("the interpreter is empty; omit it to start the file itself".into());
        }
        if let Some(hash) = &self.sha256
            && !(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err("sha256 must be 64 hex digits".into());
        }
        if self.timeout_ms.is_some_and(|timeout| timeout == 0 || timeout > MAX_TIMEOUT_MS) {
            return Err(format!("timeout_ms must be 1 to {MAX_TIMEOUT_MS}"));
        }
        self.check_sizes()?;
        self.check_parameters()
    }

    fn check_sizes(&self) -> Result<(), String> {
        let interpreter = self.interpreter.as_ref().map_or(0, String::len);
        if self.path.len().max(interpreter) > MAX_PATH_BYTES {
            return Err(format!(
                "the path and the interpreter must be at most {MAX_PATH_BYTES} bytes"
            ));
        }
        let arguments: usize = self.args.iter().map(String::len).sum();
        if self.args.len() > MAX_ARGV_WORDS || arguments > MAX_ARGV_BYTES {
            return Err(format!(
                "there must be at most {MAX_ARGV_WORDS} args of {MAX_ARGV_BYTES} bytes altogether"
            ));
        }
        check_description(self.description.as_deref())
    }

    fn check_parameters(&self) -> Result<(), String> {
        let declared = self.parameters.declared();
        if declared.len() > MAX_PARAMETERS {
            return Err(format!("there must be at most {MAX_PARAMETERS} parameters"));
        }
        let mut names = BTreeSet::new();
        for declaration in declared {
            parameter::check_name(&declaration.name).map_err(|error| error.to_string())?;
            if !names.insert(&declaration.name) {
                return Err(format!("parameter `{}` is declared twice", declaration.name));
            }
            check_declaration(declaration)
                .map_err(|message| format!("parameter `{}`: {message}", declaration.name))?;
        }
        Ok(())
    }
}

fn check_declaration(declaration: &ParameterDeclaration) -> Result<(), String> {
    if declaration.choices.len() > MAX_CHOICES {
        return Err(format!("there must be at most {MAX_CHOICES} choices"));
    }
    let is_value = |value: &String| value.len() <= MAX_VALUE_BYTES && !value.contains('\0');
    if !declaration.choices.iter().chain(&declaration.default).all(is_value) {
        return Err("a default or choice is longer than 64 KiB or contains a NUL byte".into());
    }
    if declaration.choices.iter().any(|choice| choice.contains(char::is_control)) {
        return Err("a choice contains a control character".into());
    }
    check_description(declaration.description.as_deref())
}

fn check_description(description: Option<&str>) -> Result<(), String> {
    let chars = description.unwrap_or_default().chars().count();
    if chars > MAX_DESCRIPTION_CHARS {
        return Err(format!("a description must be at most {MAX_DESCRIPTION_CHARS} characters"));
    }
    Ok(())
}

/// True for a valid script name. It becomes a file or folder elsewhere, so it never starts with a dot:
/// neither `..` nor a hidden file such as `.git`.
pub fn is_script_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_inner_path(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    parts.peek().is_some()
        && !path.contains('\\')
        && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}
