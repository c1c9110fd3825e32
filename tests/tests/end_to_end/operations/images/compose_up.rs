//! The services of `compose.yaml` without an engine: containers with the volumes, variables, secrets
//! and commands of the file, started in its order.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use muster_tests::{Container, Image, Mount, TestDir, needs_root, repository};
use serde_json::Value;

use super::yaml;

/// Where containers look for programs.
const PROGRAM_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

struct Project {
    compose: Value,
    test_dir: TestDir,
    /// The value of `MUSTER_AGENT_PACKAGES`: Debian packages, with spaces between.
    packages: String,
}

impl Project {
    fn volume(&self, name: &str) -> PathBuf {
        self.test_dir.folder(&format!("volume-{name}"))
    }

    fn secret(&self, service: &str, name: &str) {
        let source = interpolated(&self.compose["secrets"][name]["file"]);
        let target = self.test_dir.folder(&format!("secrets-{service}")).join(name);
        fs::copy(repository().join(source), &target).expect("copy the secret");
        fs::set_permissions(&target, fs::Permissions::from_mode(0o444)).expect("readable");
    }

    /// Covers the Python of this machine, which is in the file systems of the tests' images but not in
    /// the base image of the Dockerfiles, unless the build argument of the service installs it.
    fn python_cover(&self, service: &str) -> Vec<Mount> {
        let argument = &self.compose["services"][service]["build"]["args"]["PACKAGES"];
        let mut packages = self.packages.split_whitespace();
        let is_passed_on = argument == "${MUSTER_AGENT_PACKAGES:-}";
        if is_passed_on && packages.any(|package| package == "python3") {
            return Vec::new();
        }
        // A file that is not executable is no program.
        let cover = self.test_dir.folder("covers").join("python");
        fs::write(&cover, "").expect("write");
        let places = PROGRAM_FOLDERS.iter().flat_map(|folder| {
            ["python3", "python"].map(|name| PathBuf::from(folder).join(name).canonicalize())
        });
        // Several names can be links to one file, which is covered once.
        let files: BTreeSet<PathBuf> = places.flatten().collect();
        files
            .iter()
            .map(|file| Mount::read_only(cover.clone(), file.to_str().expect("a plain name")))
            .collect()
    }

    /// Starts a service. These variables replace those of the file.
    fn start(&self, name: &str, image: &Image, replaced: &[(&str, &str)]) -> Container {
        let service = &self.compose["services"][name];
        let mut mounts = self.python_cover(name);
        for mount in list(&service["volumes"]) {
            let (volume, path) = mount.as_str().and_then(|text| text.split_once(':')).expect("two");
            mounts.push(Mount::new(self.volume(volume), path));
        }
        for secret in list(&service["secrets"]) {
            self.secret(name, secret.as_str().expect("a name"));
        }
        if service["secrets"].is_array() {
            let folder = self.test_dir.folder(&format!("secrets-{name}"));
            mounts.push(Mount::read_only(folder, "/run/secrets"));
        }
        let stated = service["environment"].as_object().into_iter().flatten();
        let stated: Vec<_> =
            stated.map(|(key, value)| (key.clone(), interpolated(value))).collect();
        let mut variables: Vec<_> = stated.iter().map(|(key, value)| (&**key, &**value)).collect();
        variables.extend(replaced);
        let entrypoint = service["entrypoint"]
            .is_array()
            .then(|| list(&service["entrypoint"]).iter().map(interpolated).collect());
        Container::start_with(image, name, &mounts, entrypoint, &variables)
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text of the file if no variable is set.
fn interpolated(value: &Value) -> String {
    let mut rest = value.as_str().expect("a text");
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            text.push('$');
            rest = after;
            continue;
        }
        let (variable, after) =
            after.strip_prefix('{').and_then(|after| after.split_once('}')).expect("${…}");
        text.push_str(variable.split_once(":-").map_or("", |(_, default)| default));
        rest = after;
    }
    text + rest
}

/// The packages with which docs/DOCKER.md builds the agent's image before it copies scripts.
fn packages_of_the_walk_through() -> String {
    let page = fs::read_to_string(repository().join("docs/DOCKER.md")).expect("read the page");
    let (_, section) = page.split_once("### Your own scripts\n").expect("the section");
    let (before, _) = section.split_once("docker compose cp ").expect("it copies scripts");
    let (_, build) = before
        .split_once("MUSTER_AGENT_PACKAGES=")
        .expect("the section names the packages before it copies scripts");
    assert!(build.contains("docker compose up --build"), "it builds before it copies: {build}");
    build.split_whitespace().next().expect("a package").to_owned()
}

#[tokio::test]
async fn one_command_starts_an_agent_that_runs_a_manifest_of_the_first_generation() {
    needs_root();
    let compose = yaml("compose.yaml");
    let mut project = Project { compose, test_dir: TestDir::new(), packages: String::new() };
    let server_image = Image::build(&project.test_dir, "server");
    let agent_image = Image::build(&project.test_dir, "agent");
    // Containers of the tests share the machine's network, so the port is another one. Engines set
    // HOME by the image's user.
    let home = ("HOME", "/data");
    let server = [home, ("MUSTER_LISTEN", "127.0.0.1:0")];
    let mut server = project.start("server", &server_image, &server);
    server.becomes(true).await;
    let url = fs::read_to_string(project.volume("server-data").join("server_url")).expect("a URL");
    let here = ("MUSTER_SERVER_URL", url.trim());
    let key_file = project.volume("agent-settings").join("agent_key");
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (status, log) = project.start("agent-key", &server_image, &[here, home]).ended().await;
        assert!(status.success(), "{log}");
        let key = fs::read_to_string(&key_file).expect("a key");
        assert!(key.starts_with("mst_agent_") && !log.contains(key.trim()), "{log}");
        keys.push(key);
    }
    assert_eq!(keys[0], keys[1], "a second start creates no second key");
    let agent = project.start("agent", &agent_image, &[here]);
    let name = "container-agent";
    server.run(&format!("muster agents wait {name}")).await.expect(0);
    let printed = server.run(&format!("muster run {name} hello")).await.expect(0);
    assert!(printed.starts_with("Hello, world, from"), "{printed}");

    let python = agent.run("python3 --version").await;
    assert_ne!(python.code, Some(0), "the image without packages has no Python");

    // `up` replaces the container by one of the image with the packages.
    agent.stop().await;
    project.packages = packages_of_the_walk_through();
    let agent = project.start("agent", &agent_image, &[here]);
    // As `docker compose cp` copies them: files of root that everyone can read.
    let state = project.volume("agent-state");
    fs::write(state.join("scripts/hello_world.py"), "print('Hello from Python')").expect("write");
    let manifest = r#"{"scripts": [{"name": "hello", "path": "hello_world.py"}]}"#;
    // The file itself belongs to the agent, so it is replaced.
    fs::remove_file(state.join("script_manifest.json")).expect("remove");
    fs::write(state.join("script_manifest.json"), manifest).expect("write");
    let printed = server.run(&format!("muster run {name} hello")).await.expect(0);
    assert_eq!(printed, "Hello from Python\n");
    agent.stop().await;
    server.stop().await;
}
