//! Paths in the pages for developers lead to files and folders that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::sources;

/// Paths on a host and of built programs, which the repository does not have.
const OUTSIDE: [&str; 2] = ["versions/current", "target/debug"];

/// Every file and folder of the repository, relative to its root, without endings `.rs`.
struct Tree(BTreeSet<String>);

impl Tree {
    fn read() -> Self {
        let mut found = BTreeSet::new();
        walk(&sources::root(), &mut found);
        assert!(found.len() > 500, "the repository moved: this test reads nothing");
        Self(found)
    }

    /// True if a path of the repository ends with these components. Pages shorten paths, such as
    /// `writer/batch` for `server/src/store/writer/batch.rs`.
    fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/').trim_end_matches(".rs");
        let end = format!("/{path}");
        self.0.contains(path) || self.0.iter().any(|known| known.ends_with(&end))
    }
}

fn walk(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("read a folder") {
        let path = entry.expect("read a folder").path();
        let is_built = path.join("CACHEDIR.TAG").exists();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if is_built || [".git", ".demo"].contains(&name.as_str()) {
            continue;
        }
        let shown = path.strip_prefix(sources::root()).expect("inside").to_string_lossy();
        found.insert(shown.trim_end_matches(".rs").to_owned());
        if path.is_dir() && !path.is_symlink() {
            walk(&path, found);
        }
    }
}

/// `a/{b,c}` is `a/b` and `a/c`.
fn expand(path: &str) -> Vec<String> {
    let group = path.split_once('{').and_then(|(before, rest)| {
        let (group, after) = rest.split_once('}')?;
        Some((before, group, after))
    });
    let Some((before, group, after)) = group else { return vec![path.to_owned()] };
    group.split(',').flat_map(|one| expand(&format!("{before}{}{after}", one.trim()))).collect()
}

/// The code spans of a page that are paths. Spans with other signs are addresses, calls or patterns.
fn paths_of(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./{},".contains(c);
            let is_path = |span: &&str| {
                let is_file = [".rs", ".md", ".toml", ".sh", ".json"];
                let looks_like_one =
                    span.contains('/') || is_file.iter().any(|ending| span.ends_with(ending));
                looks_like_one && !span.starts_with('/') && span.chars().all(is_part)
            };
            let spans = line.split('`').skip(1).step_by(2).filter(is_path);
            found.extend(spans.flat_map(expand));
        }
    }
    found
}

#[test]
fn every_path_on_the_pages_for_developers_exists() {
    let tree = Tree::read();
    let mut pages = sources::pages();
    let is_for_developers = |path: &str| {
        ["CONTRIBUTING.md", "ARCHITECTURE.md"].contains(&path) || path.starts_with("docs/howto/")
    };
    pages.retain(|page| is_for_developers(&page.path));
    let mut problems = Vec::new();
    for sources::SourceFile { path: page, text, .. } in &pages {
        let paths = paths_of(text);
        let missing = paths.iter().filter(|path| !OUTSIDE.contains(&path.as_str()));
        let missing = missing.filter(|path| !tree.has(path));
        problems.extend(missing.map(|path| format!("{page}: `{path}` does not exist")));
    }
    assert!(problems.is_empty(), "correct these paths:\n{}", problems.join("\n"));
}

#[test]
fn a_path_that_does_not_exist_is_found_also_in_a_group() {
    let page = "`docs/{API,NO}.md` `writer/batch` `POST /api/no` `a::b` `no/such.rs`\n```\n`x/y`\n";
    let tree = Tree::read();
    let missing: Vec<_> = paths_of(page).into_iter().filter(|path| !tree.has(path)).collect();
    assert_eq!(missing, ["docs/NO.md", "no/such.rs"]);
}

/// The walks of a page: the number of files that each states, and the number that it names. Files in brackets
/// need not be opened.
fn walks(page: &str) -> Vec<(usize, usize)> {
    let starts = page.match_indices("Walk: ").map(|(start, _)| &page[start + 6..]);
    let walk = |text: &str| {
        // A walk is one line, or the list that follows it.
        let lines = text.lines().enumerate().take_while(|(index, line)| {
            *index == 0 || line.is_empty() || line.starts_with(|c: char| c.is_ascii_digit())
        });
        let text: Vec<_> = lines.map(|(_, line)| line).collect();
        let text = text.join("\n");
        let stated = text.split(' ').next().and_then(|number| number.parse().ok());
        let outside = text.split('(').enumerate().map(|(index, part)| match index {
            0 => part,
            _ => part.split_once(')').map_or("", |(_, after)| after),
        });
        let named: BTreeSet<_> = paths_of(&outside.collect::<String>()).into_iter().collect();
        (stated.expect("a number of files"), named.len())
    };
    starts.map(walk).collect()
}

#[test]
fn each_walk_of_the_architecture_names_as_many_files_as_it_states() {
    let walks = walks(&sources::read("ARCHITECTURE.md"));
    assert_eq!(walks.len(), 3, "the walks moved: this test reads nothing");
    for (stated, named) in walks {
        assert_eq!(stated, named, "count the files of this walk again");
    }
}

#[test]
fn files_of_a_walk_are_counted_once_and_without_those_in_brackets() {
    let line = "Walk: 2 files to open. `a/b` → `c/d` (`e/f`) → `a/b`.\n\nText `g/h`.\n";
    let list =
        "Walk: 3 files to open.\n\n1. `a/b` → `c/d`.\n2. `e/f`, then `word`.\n\nText `g/h`.\n";
    assert_eq!(walks(&format!("{line}{list}")), [(2, 2), (3, 3)]);
}
