//! `deploy/kubernetes/`: valid by the schemas of Kubernetes, in line with the image, and run with
//! volumes as Kubernetes makes them, but without a cluster.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use muster_tests::{
    Container, Dockerfile, Fixture, Image, JsonFields as _, Mount, needs_root, repository,
    run_tool, test_tools,
};
use serde_json::{Value, json};

use super::{cut, yaml_documents};

const EXAMPLES: [&str; 2] = ["deploy/kubernetes/daemonset.yaml", "deploy/kubernetes/sidecar.yaml"];

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn named<'a>(items: &'a Value, name: &str) -> &'a Value {
    list(items).iter().find(|item| item["name"] == name).expect("it exists")
}

/// An example: its configuration and the agent's pod.
struct Example {
    config: Value,
    pod: Value,
}

impl Example {
    fn read(path: &str) -> Self {
        let mut documents = yaml_documents(path);
        let pod = documents.pop().expect("a workload")["spec"]["template"]["spec"].take();
        Self { config: documents.pop().expect("a ConfigMap"), pod }
    }

    /// The container of the agent, with its probes.
    fn agent(&self) -> &Value {
        let mut all = list(&self.pod["initContainers"]).iter().chain(list(&self.pod["containers"]));
        all.find(|one| !one["livenessProbe"].is_null()).expect("an agent")
    }

    /// Creates the volume as Kubernetes does: `fsGroup` is the group of everything but the node's
    /// folders, and files of secrets and configuration are links, so that they change together.
    fn volume(&self, name: &str, folder: &Path, key: &str) {
        let volume = named(&self.pod["volumes"], name);
        let group = self.pod["securityContext"]["fsGroup"].as_u64();
        let group = group.map(|group| u32::try_from(group).expect("a group"));
        if volume["hostPath"].is_object() {
            // What the container `state-owner` does.
            let command = list(&named(&self.pod["initContainers"], "state-owner")["command"]);
            let words: Vec<_> = command.iter().filter_map(Value::as_str).collect();
            assert_eq!(words[2], "/var/lib/muster");
            run_tool(Path::new(words[0]), &[words[1], &folder.to_string_lossy()], &[], folder);
            return;
        }
        let data = folder.join("..2026");
        if volume["emptyDir"].is_object() {
            // Not empty, so that it keeps its owner.
            fs::write(folder.join("lost+found"), "").expect("write");
            fs::set_permissions(folder, Permissions::from_mode(0o2777)).expect("mode");
            chown(folder, Some(0), group).expect("chown");
            return;
        }
        fs::create_dir_all(&data).expect("create");
        let mode = volume["secret"]["defaultMode"].as_u64().unwrap_or(0o644);
        let put = |file: &str, text: &str| {
            fs::write(data.join(file), text).expect("write");
            let mode = Permissions::from_mode(u32::try_from(mode).expect("a mode"));
            fs::set_permissions(data.join(file), mode).expect("mode");
            chown(data.join(file), Some(0), group).expect("chown");
            symlink(format!("..data/{file}"), folder.join(file)).expect("link");
        };
        for item in list(&volume["configMap"]["items"]) {
            put(item.text("path"), self.config["data"].text(item.text("key")));
        }
        if volume["secret"].is_object() {
            put("agent_key", key);
        }
        symlink("..2026", folder.join("..data")).expect("link");
    }

    /// Starts the agent's container. Volumes of earlier containers of this name are used again, if
    /// they are on the node.
    fn start(&self, fixture: &Fixture, image: &Image, pod: &str, key: &str) -> Container {
        let mut mounts = Vec::new();
        for mount in list(&self.agent()["volumeMounts"]) {
            let (name, path) = (mount.text("name"), mount.text("mountPath"));
            if path == "/tmp" {
                continue;
            }
            let is_on_node = named(&self.pod["volumes"], name)["hostPath"].is_object();
            let owner = if is_on_node { "node" } else { pod };
            let mut source: PathBuf = fixture.test_dir.folder(&format!("{owner}-{name}"));
            if fs::read_dir(&source).expect("a folder").next().is_none() {
                self.volume(name, &source, key);
            }
            if let Some(file) = mount["subPath"].as_str() {
                source = source.join(file).canonicalize().expect("the file");
            }
            let is_read_only = mount["readOnly"] == true;
            let bind = if is_read_only { Mount::read_only } else { Mount::new };
            mounts.push(bind(source, path));
        }
        let url = fixture.server.url();
        let names: Vec<_> = list(&self.agent()["env"]).iter().map(|one| one.text("name")).collect();
        assert_eq!(names, ["MUSTER_SERVER_URL"]);
        Container::start_with(image, pod, &mounts, None, &[(names[0], &url)])
    }
}

#[test]
fn examples_are_valid_by_the_schemas_of_kubernetes() {
    let python = test_tools("python").join("bin/python");
    let check = repository().join("tests/tools/check_kubernetes.py");
    let check = check.to_str().expect("plain text");
    let words = [check, "1.29,1.33,1.37", EXAMPLES[0], EXAMPLES[1]];
    let report = run_tool(&python, &words, &[], repository());
    assert_eq!(report.trim(), "4", "the number of documents");
}

#[test]
fn examples_agree_with_the_image_and_have_no_key_in_a_variable_or_argument() {
    let file = Dockerfile::read("agent");
    for path in EXAMPLES {
        let example = Example::read(path);
        let agent = example.agent();
        for volume in file.volumes() {
            let is_mounted =
                list(&agent["volumeMounts"]).iter().any(|mount| mount["mountPath"] == volume);
            assert!(is_mounted, "{path}: {volume}");
        }
        let health: Vec<_> = list(&agent["livenessProbe"]["exec"]["command"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(health.join(" "), file.health_check(), "{path}");
        let (user, group) = file.user();
        let pod = &example.pod["securityContext"];
        assert_eq!((&pod["runAsUser"], &pod["fsGroup"]), (&json!(user), &json!(group)), "{path}");
        assert_eq!(pod["runAsNonRoot"], true, "{path}");
        let rights = &agent["securityContext"];
        assert_eq!(rights["capabilities"], json!({"drop": ["ALL"]}), "{path}");
        assert_eq!(rights["readOnlyRootFilesystem"], true, "{path}");
        assert!(agent["resources"]["limits"]["memory"].is_string(), "{path}");
        // The key is where the image's MUSTER_API_KEY_FILE is.
        let key_file = &file.pairs("ENV")["MUSTER_API_KEY_FILE"];
        let mount = named(&agent["volumeMounts"], "key");
        assert_eq!(format!("{}/agent_key", mount.text("mountPath")), *key_file, "{path}");
        for name in ["scripts", "manifest", "key"] {
            assert_eq!(named(&agent["volumeMounts"], name)["readOnly"], true, "{path}: {name}");
        }
        let text = fs::read_to_string(repository().join(path)).expect("read");
        assert!(text.contains("--from-file=agent_key=/dev/stdin"), "{path}");
        assert!(!text.contains("mst_agent_") && !text.contains("secretKeyRef"), "{path}");
    }
}

#[tokio::test]
async fn agent_of_a_node_is_the_same_agent_in_a_new_pod_and_that_of_a_sidecar_a_new_one() {
    needs_root();
    let fixture = Fixture::on_sqlite().await;
    let image = Image::build(&fixture.test_dir, "agent");
    for (path, script, is_kept) in [(EXAMPLES[0], "disk", true), (EXAMPLES[1], "files", false)] {
        let example = Example::read(path);
        let key = json!({"permissions": muster_tests::ALL, "max_agents": 2});
        let (key_id, key) = fixture.api.agent_key(key).await;
        let mut agents = Vec::new();
        for pod in ["first", "second"].map(|pod| format!("{pod}-{script}")) {
            let mut container = example.start(&fixture, &image, &pod, &key);
            container.becomes(true).await;
            let agent = newest_online(&fixture, &key_id).await;
            let run = fixture.api.execute(&agent, script, json!({})).await;
            let ended = fixture.api.finished(&run).await;
            assert_eq!(ended["state"], "succeeded", "{path}: {ended}\n{}", container.log());
            // A script can change neither the manifest nor the scripts nor the key.
            for write in [
                "touch /var/lib/muster/x && ! mv /var/lib/muster/x /var/lib/muster/script_manifest.json",
                "! rm /var/lib/muster/script_manifest.json",
                "! touch /var/lib/muster/scripts/x",
                "! touch /etc/muster/x && ! echo x >>/etc/muster/agent_key",
            ] {
                container.run(write).await.expect(0);
            }
            cut(&fixture, container, &agent).await;
            agents.push(agent);
        }
        assert_eq!(agents[0] == agents[1], is_kept, "{path}");
    }
}

/// Waits for the agent of this key that is online, and returns its id.
async fn newest_online(fixture: &Fixture, key_id: &str) -> String {
    muster_tests::eventually("an agent is online", async || {
        let agents = fixture.agents_of(key_id).await;
        let online = agents.iter().find(|agent| agent["status"] == "online")?;
        Some(online.id().to_owned())
    })
    .await
}
