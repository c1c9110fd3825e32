//! A look into a server's database past the server.

use std::process::Command;

use crate::servers::server::{Database, Server};

const QUERY: &str = "import sqlite3, sys; \
    database = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True, timeout=30); \
    [print(*row, sep='|') for row in database.execute(sys.argv[2])]";

impl Server {
    /// What a statement selects: a line a row, fields separated by `|`.
    ///
    /// # Panics
    /// If the statement fails.
    pub fn rows(&self, statement: &str) -> Vec<String> {
        let mut command = match &self.database {
            Database::Sqlite => {
                let mut command = Command::new("python3");
                command.args(["-c", QUERY]).arg(self.data_dir().join("muster.db"));
                command
            }
            Database::Postgres(postgres) => {
                let mut command = Command::new(postgres.program("psql"));
                command.args([&postgres.url(), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c"]);
                command
            }
        };
        let output = command.arg(statement).output().expect("ask the database");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statement}: {said}");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}
