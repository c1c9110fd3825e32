//! `compose.yaml`, as far as it can be checked without an engine.

use std::collections::BTreeSet;

use muster_tests::{Dockerfile, repository, run_tool, test_tools};
use serde_json::Value;

use super::yaml;

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn compose_file_is_valid_by_the_schema_of_the_compose_specification() {
    let python = test_tools("python").join("bin/python");
    let words =
        ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"];
    run_tool(&python, &words, &[], repository());
}

#[test]
fn services_refer_to_existing_files_and_volumes() {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().expect("services");
    let expected = BTreeSet::from(["agent", "agent-key", "postgres", "server"]);
    assert_eq!(names(&compose["services"]), expected);
    let (volumes, secrets) = (names(&compose["volumes"]), names(&compose["secrets"]));
    let mut used = BTreeSet::new();
    for (name, service) in services {
        for mount in texts(&service["volumes"]) {
            let source = mount.split(':').next().expect("a source");
            assert!(source.starts_with('.') || volumes.contains(source), "{name}: {mount}");
            used.insert(source);
        }
        for secret in service["secrets"].as_array().into_iter().flatten() {
            let source = secret.as_str().or(secret["source"].as_str()).expect("a secret");
            assert!(secrets.contains(source), "{name}: {secret}");
            used.insert(source);
        }
        for other in names(&service["depends_on"]) {
            assert!(services.contains_key(other), "{name} depends on {other}");
            let ends = services[other]["restart"] == "no";
            let condition = if ends { "service_completed_successfully" } else { "service_healthy" };
            assert_eq!(service["depends_on"][other]["condition"], condition, "{name}: {other}");
        }
    }
    assert!(volumes.is_subset(&used) && secrets.is_subset(&used), "something is not used");
    for secret in secrets {
        assert!(compose["secrets"][secret]["file"].is_string(), "{secret} is no file");
    }
}

#[test]
fn image_data_is_in_named_volumes_and_no_secret_in_a_variable() {
    let compose = yaml("compose.yaml");
    for part in ["server", "agent"] {
        let (file, service) = (Dockerfile::read(part), &compose["services"][part]);
        assert_eq!(service["build"]["dockerfile"], format!("Dockerfile.{part}"));
        let mounts = texts(&service["volumes"]);
        let mounted: BTreeSet<_> = mounts.iter().filter_map(|one| one.split(':').nth(1)).collect();
        for path in file.volumes() {
            assert!(mounted.contains(path), "{part}: nothing is mounted on {path}");
        }
    }
    for (name, service) in compose["services"].as_object().expect("services") {
        assert!(service["image"].is_string(), "{name}");
        for (variable, value) in service["environment"].as_object().into_iter().flatten() {
            let is_secret =
                ["KEY", "PASSWORD", "TOKEN", "SECRET"].iter().any(|word| variable.contains(word));
            let is_file = variable.ends_with("_FILE");
            assert!(!is_secret || is_file, "{name}: {variable} would hold a secret");
            let path = value.as_str().unwrap_or_default();
            assert!(!is_file || path.starts_with("/run/secrets/"), "{name}: {variable}={path}");
        }
    }
    let postgres = &compose["services"]["postgres"];
    assert_eq!(texts(&postgres["profiles"]), ["postgres"]);
    assert!(postgres["healthcheck"]["test"].is_array());
}
