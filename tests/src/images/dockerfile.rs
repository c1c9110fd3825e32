//! Parses Dockerfiles, as far as those of this repository need it. Runs nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The repository, from which images are built.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// One instruction: its word in capitals, and the rest with its lines joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    pub word: String,
    pub text: String,
}

/// From one `FROM` to the next.
#[derive(Debug, Clone)]
pub struct Stage {
    /// An image, or the name of a stage before.
    pub from: String,
    pub name: Option<String>,
    pub steps: Vec<Instruction>,
}

/// A parsed file.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    pub path: PathBuf,
    pub stages: Vec<Stage>,
}

impl Dockerfile {
    /// Parses `Dockerfile.<part>` of the repository.
    ///
    /// # Panics
    /// If it cannot be parsed.
    pub fn read(part: &str) -> Self {
        let path = repository().join(format!("Dockerfile.{part}"));
        let text = fs::read_to_string(&path).expect("read the Dockerfile");
        let mut stages: Vec<Stage> = Vec::new();
        for step in steps(&text) {
            if step.word == "FROM" {
                let mut words = step.text.split_whitespace();
                let from = words.next().expect("FROM names an image").to_owned();
                let name = words.next().map(|word| {
                    assert!(word.eq_ignore_ascii_case("as"), "FROM … AS …: {}", step.text);
                    words.next().expect("AS names the stage").to_owned()
                });
                stages.push(Stage { from, name, steps: Vec::new() });
            } else {
                stages.last_mut().expect("a stage begins with FROM").steps.push(step);
            }
        }
        Self { path, stages }
    }

    /// The stage with this name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name.as_deref() == Some(name))
    }

    /// Every instruction of the last stage, after those of the stages that it is built from.
    pub fn result(&self) -> Vec<&Instruction> {
        let mut chain = vec![self.stages.last().expect("a stage")];
        while let Some(before) = self.stage(&chain[chain.len() - 1].from) {
            chain.push(before);
        }
        chain.into_iter().rev().flat_map(|stage| &stage.steps).collect()
    }

    /// The text of the only instruction of the result with this word.
    ///
    /// # Panics
    /// If there is none, or more than one.
    pub fn only(&self, word: &str) -> &str {
        let found: Vec<_> = self.result().into_iter().filter(|step| step.word == word).collect();
        assert_eq!(found.len(), 1, "{}: one {word}", self.path.display());
        &found[0].text
    }

    /// The words of an instruction in its JSON form.
    pub fn words(&self, word: &str) -> Vec<String> {
        serde_json::from_str(self.only(word)).expect("the JSON form, which starts no shell")
    }

    /// Names and values of the variables or labels of the result.
    pub fn pairs(&self, word: &str) -> BTreeMap<String, String> {
        let steps = self.result().into_iter().filter(|step| step.word == word);
        steps.flat_map(|step| pairs(&step.text)).collect()
    }

    /// The paths of the volumes.
    pub fn volumes(&self) -> Vec<&str> {
        self.only("VOLUME").split_whitespace().collect()
    }

    /// User and group, as numbers.
    pub fn user(&self) -> (u32, u32) {
        let (user, group) = self.only("USER").split_once(':').expect("USER is user:group");
        (user.parse().expect("a number"), group.parse().expect("a number"))
    }

    /// The health check as a shell command.
    pub fn health_check(&self) -> String {
        let (_, command) = self.only("HEALTHCHECK").split_once("CMD ").expect("HEALTHCHECK … CMD");
        match serde_json::from_str::<Vec<String>>(command) {
            Ok(words) => words.join(" "),
            Err(_) => command.to_owned(),
        }
    }
}

fn steps(text: &str) -> Vec<Instruction> {
    let mut found = Vec::new();
    let mut joined = String::new();
    // Comments may be between the lines of one instruction.
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(part) => joined.push_str(part),
            None => {
                joined.push_str(line);
                let step = std::mem::take(&mut joined);
                if let Some((word, text)) = step.trim().split_once(char::is_whitespace) {
                    let word = word.to_ascii_uppercase();
                    found.push(Instruction { word, text: text.trim().to_owned() });
                }
            }
        }
    }
    assert!(joined.is_empty(), "the last line goes on nowhere");
    found
}

/// `NAME=value OTHER="with spaces"`.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while let Some((name, value)) = rest.split_once('=') {
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a quote ends"),
            None => value.split_once(char::is_whitespace).unwrap_or((value, "")),
        };
        found.push((name.to_owned(), value.to_owned()));
        rest = after.trim();
    }
    found
}
