//! People at the command line.

use std::os::unix::fs::PermissionsExt as _;

use muster_tests::{Cli, Fixture, JsonFields as _, PASSWORD};

#[tokio::test]
async fn person_signs_in_at_the_command_line_manages_members_and_signs_out() {
    let fixture = Fixture::on_sqlite().await;
    fixture.owner().await;
    let (cli, url) = (Cli::new(&fixture.test_dir), fixture.server.url());
    let login = ["login", "--server", &url, "--email", "ada@example.com"];
    let refused = cli.run_with_input(&login, "wrong horse battery\n").await;
    refused.expect(1);
    assert!(refused.stderr.contains("the address or the password is wrong"), "{}", refused.stderr);
    let file = cli.home().join(".config/muster/config.toml");
    assert!(!file.exists(), "a failed sign-in stores nothing");
    cli.run_with_input(&login, &format!("{PASSWORD}\n")).await.expect(0);
    let stored = || std::fs::read_to_string(&file).expect("the stored session");
    let mode = std::fs::metadata(&file).expect("the file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(!stored().contains(PASSWORD));
    let me = cli.run(&["whoami", "--json"]).await.json();
    assert_eq!((me.text("kind"), me.text("role")), ("member", "owner"));
    cli.run(&["agents", "list"]).await.expect(0);

    // A token that has expired is renewed before the command.
    let before = stored();
    let line = before.lines().find(|line| line.starts_with("access_expires_at")).expect("a line");
    let expired = before.replace(line, "access_expires_at = \"2020-01-01T00:00:00Z\"");
    std::fs::write(&file, &expired).expect("write");
    cli.run(&["whoami"]).await.expect(0);
    let token = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("refresh_token"));
        line.expect("a refresh token").to_owned()
    };
    assert_ne!(token(&stored()), token(&before));

    let token = cli.run(&["members", "invite", "bob@example.com"]).await.expect(0);
    let token_file = cli.home().join("token");
    std::fs::write(&token_file, token).expect("write");
    let path = token_file.to_str().expect("text");
    let accept = ["accept-invitation", "--server", &url, "--token-file", path];
    cli.run_with_input(&accept, PASSWORD).await.expect(0);
    fixture.server.query("UPDATE user_sessions SET confirmed_at = confirmed_at - 901000");
    let change = ["members", "set-role", "bob@example.com", "admin"];
    let refused = cli.run(&change).await;
    refused.expect(1);
    assert!(refused.stderr.contains("muster confirm"), "{}", refused.stderr);
    cli.run_with_input(&["confirm"], PASSWORD).await.expect(0);
    cli.run(&change).await.expect(0);
    let list = cli.run(&["members"]).await.expect(0);
    assert!(list.contains("bob@example.com") && list.contains("admin"), "{list}");
    cli.run(&["members", "remove", "bob@example.com"]).await.expect(0);

    cli.run(&["logout"]).await.expect(0);
    assert!(!file.exists());
    cli.run(&["whoami"]).await.expect(2);
    // The first session is that of the fixture.
    let ended = "SELECT COUNT(*) FROM user_sessions WHERE revoked_at IS NOT NULL";
    assert_eq!(fixture.server.query(ended), ["1"]);
}
