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
    assert!(!refused.stderr.contains("login` again"), "{}", refused.stderr);
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

    let me = cli.run(&["whoami"]).await.expect(0);
    let expected = format!("ada@example.com, owner of \"default\" on {url} (session until ");
    assert!(me.starts_with(&expected) && me.contains("password confirmed 0 min ago"), "{me}");

    cli.run(&["members", "invite", "eve@example.com"]).await.expect(0);
    let open = cli.run(&["members", "invitations"]).await.expect(0);
    assert!(open.contains("eve@example.com") && open.contains("member"), "{open}");
    cli.run(&["members", "withdraw", "eve@example.com"]).await.expect(0);
    let open = cli.run(&["members", "invitations"]).await.expect(0);
    assert!(!open.contains("eve@example.com"), "{open}");
    cli.run(&["members", "withdraw", "eve@example.com"]).await.expect(2);
    let invited = cli.run(&["members", "invite", "bob@example.com"]).await;
    let hand_over = format!("muster accept-invitation --server {url}");
    assert!(invited.stderr.contains(&hand_over), "{}", invited.stderr);
    let token = invited.expect(0);
    let token_file = cli.home().join("token");
    std::fs::write(&token_file, token).expect("write");
    let path = token_file.to_str().expect("text");
    let accept = ["accept-invitation", "--server", &url, "--token-file", path];
    let none = cli.run(&accept).await;
    none.expect(2);
    assert!(none.stderr.contains("no password was given"), "{}", none.stderr);
    let accepted = cli.run_with_input(&accept, PASSWORD).await.expect(0);
    let next = format!("You are member of \"default\"; next: muster login --server {url}");
    assert!(
        accepted.starts_with(&next) && accepted.contains("--email bob@example.com"),
        "{accepted}"
    );
    let again = cli.run_with_input(&accept, PASSWORD).await;
    again.expect(1);
    assert!(!again.stderr.contains("muster login"), "{}", again.stderr);
    fixture.server.query("UPDATE user_sessions SET confirmed_at = confirmed_at - 901000");
    let change = ["members", "set-role", "bob@example.com", "admin"];
    let refused = cli.run(&change).await;
    refused.expect(1);
    assert!(refused.stderr.contains("muster confirm"), "{}", refused.stderr);
    cli.run_with_input(&["confirm"], PASSWORD).await.expect(0);
    cli.run(&change).await.expect(0);
    let list = cli.run(&["members"]).await.expect(0);
    assert!(list.contains("bob@example.com") && list.contains("admin"), "{list}");
    let explained = cli.run(&["access", "explain", "bob@example.com", "members:write"]).await;
    let text = explained.expect(1);
    assert!(text.contains("bob (admin) lacks `members:write`, which owners have"), "{text}");
    cli.run(&["members", "remove", "bob@example.com"]).await.expect(0);

    cli.run(&["logout"]).await.expect(0);
    assert!(!file.exists());
    cli.run(&["whoami"]).await.expect(2);
    // The first session is that of the fixture.
    let ended = "SELECT COUNT(*) FROM user_sessions WHERE revoked_at IS NOT NULL";
    assert_eq!(fixture.server.query(ended), ["1"]);
}

#[tokio::test]
async fn first_owner_is_made_and_manages_its_account_at_the_command_line() {
    let fixture = Fixture::on_sqlite().await;
    let (cli, url) = (Cli::new(&fixture.test_dir), fixture.server.url());
    let token_file = fixture.server.data_dir().join("setup_token");
    let path = token_file.to_str().expect("text");
    let set_up = ["setup", "--server", &url, "--token-file", path, "--email", "ada@example.com"];
    let made = cli.run_with_input(&set_up, PASSWORD).await.expect(0);
    assert!(made.starts_with("You are owner of \"default\"; next: muster login"), "{made}");
    let login = ["login", "--server", &url, "--email", "ada@example.com", "--tenant", "default"];
    cli.run_with_input(&login, PASSWORD).await.expect(0);
    let unknown = ["login", "--server", &url, "--email", "ada@example.com", "--tenant", "nope"];
    cli.run_with_input(&unknown, PASSWORD).await.expect(2);
    let switched = cli.run(&["switch", "default"]).await.expect(0);
    assert_eq!(switched.trim(), "now in tenant default as owner");

    let sessions = cli.run(&["account", "sessions", "--json"]).await.json();
    let other = sessions.list("items").iter().find(|session| session["is_current"] == false);
    let other = other.expect("the session of the refused sign-in").id().to_owned();
    cli.run(&["account", "sessions", "end", &other]).await.expect(0);
    let sessions = cli.run(&["account", "sessions"]).await.expect(0);
    assert!(!sessions.contains(&other), "{sessions}");
    let new = "another horse battery";
    cli.run_with_input(&["account", "password"], &format!("{PASSWORD}\n{new}\n")).await.expect(0);
    cli.run_with_input(&login, PASSWORD).await.expect(1);
    cli.run_with_input(&login, new).await.expect(0);
}
