//! Finds programs that are older than their sources, so that no test runs a stale program.
//!
//! Beside each program cargo writes a list of the workspace's files that it was made of. Cargo itself
//! rebuilds a program if one of them changed after the build started, so a program that cargo would
//! keep is never refused here.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A source that was changed or removed since the program was built; `None` if the program is
/// current, or if cargo left no list of its sources. Changes after `run_started_at` don't count: a
/// person may edit while tests run.
pub fn changed_source(program: &Path, run_started_at: SystemTime) -> Option<PathBuf> {
    let list = fs::read_to_string(program.with_extension("d")).ok()?;
    let built_at = modified_at(program)?;
    sources(&list).into_iter().find(|source| match modified_at(source) {
        Some(changed_at) => changed_at > built_at && changed_at < run_started_at,
        None => true,
    })
}

fn modified_at(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// The files after the colon of a rule of make. Spaces in their names are escaped.
fn sources(list: &str) -> Vec<PathBuf> {
    let Some((_, files)) = list.lines().next().and_then(|rule| rule.split_once(": ")) else {
        return vec![];
    };
    let files = files.replace("\\ ", "\0");
    files
        .split(' ')
        .filter(|file| !file.is_empty())
        .map(|file| file.replace('\0', " ").into())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Build {
        folder: tempfile::TempDir,
        now: SystemTime,
    }

    impl Build {
        /// A program that was built a minute ago from two older files.
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("make a folder");
            let build = Self { folder, now: SystemTime::now() };
            build.write("program", MINUTE);
            build.write("main.rs", 2 * MINUTE);
            build.write("a module.rs", 3 * MINUTE);
            let place = build.folder.path().display();
            let list = format!("{place}/program: {place}/main.rs {place}/a\\ module.rs\n");
            fs::write(build.path("program.d"), list).expect("write");
            build
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, age: Duration) {
            let file = File::create(self.path(name)).expect("create");
            file.set_modified(self.now - age).expect("set the time");
        }

        fn changed(&self) -> Option<PathBuf> {
            changed_source(&self.path("program"), self.now)
        }
    }

    #[test]
    fn program_newer_than_its_sources_is_current() {
        assert_eq!(Build::new().changed(), None);
    }

    #[test]
    fn program_with_a_changed_or_missing_source_is_stale() {
        let build = Build::new();
        build.write("a module.rs", MINUTE / 2);
        assert_eq!(build.changed(), Some(build.path("a module.rs")));
        let build = Build::new();
        fs::remove_file(build.path("main.rs")).expect("remove");
        assert_eq!(build.changed(), Some(build.path("main.rs")));
    }

    #[test]
    fn source_changed_while_the_tests_run_makes_no_program_stale() {
        let build = Build::new();
        build.write("main.rs", MINUTE / 2);
        let run_started_at = build.now - MINUTE * 3 / 4;
        assert_eq!(changed_source(&build.path("program"), run_started_at), None);
    }

    #[test]
    fn program_without_a_list_of_sources_is_taken_as_current() {
        let build = Build::new();
        build.write("main.rs", MINUTE / 2);
        fs::remove_file(build.path("program.d")).expect("remove");
        assert_eq!(build.changed(), None);
    }
}
