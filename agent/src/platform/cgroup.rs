//! Control groups of version 2, which limit memory and processors of all processes in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Where systems mount the groups.
const ROOT: &str = "/sys/fs/cgroup";
/// The group that holds those of this agent.
const PARENT: &str = "muster-services";
/// Period of the limit of processors, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// Limits of one group.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupLimits {
    pub max_memory_bytes: Option<u64>,
    /// In percent of one processor.
    pub max_cpu_percent: Option<u32>,
}

/// A control group with limits. It can be removed once it has no process.
#[derive(Debug)]
pub struct ControlGroup {
    path: PathBuf,
    processes: File,
}

impl ControlGroup {
    /// Creates a group with this name, and with its limits before any process is in it.
    ///
    /// # Errors
    /// The system's error; without groups of version 2 or without the right to create one.
    pub fn create(name: &str, limits: GroupLimits) -> io::Result<Self> {
        Self::create_in(Path::new(ROOT), name, limits)
    }

    fn create_in(root: &Path, name: &str, limits: GroupLimits) -> io::Result<Self> {
        // Groups of version 1 have no such file.
        fs::metadata(root.join("cgroup.controllers"))?;
        let parent = root.join(PARENT);
        create_directory(&parent)?;
        for controllers in
            [root.join("cgroup.subtree_control"), parent.join("cgroup.subtree_control")]
        {
            write(&controllers, "+cpu +memory")?;
        }
        let path = parent.join(name);
        create_directory(&path)?;
        let open = || OpenOptions::new().write(true).open(path.join("cgroup.procs"));
        let limited = set_limits(&path, limits).and_then(|()| open());
        match limited {
            Ok(processes) => Ok(Self { path, processes }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(error)
            }
        }
    }

    /// A file into which a process writes `0` to enter.
    ///
    /// # Errors
    /// The system's error.
    pub fn entrance(&self) -> io::Result<File> {
        self.processes.try_clone()
    }

    /// Removes the group if it is empty.
    pub fn remove(self) {
        let _ = fs::remove_dir(&self.path);
    }
}

fn set_limits(path: &Path, limits: GroupLimits) -> io::Result<()> {
    if let Some(bytes) = limits.max_memory_bytes {
        write(&path.join("memory.max"), &bytes.to_string())?;
    }
    if let Some(percent) = limits.max_cpu_percent {
        let quota_us = u64::from(percent) * CPU_PERIOD_US / 100;
        write(&path.join("cpu.max"), &format!("{quota_us} {CPU_PERIOD_US}"))?;
    }
    Ok(())
}

fn create_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The files are there already: a new one is no setting.
fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod user_mode_tests;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: GroupLimits =
        GroupLimits { max_memory_bytes: Some(64 << 20), max_cpu_percent: Some(150) };

    #[test]
    fn limits_are_written_before_a_process_can_enter() {
        let root = tempfile::tempdir().expect("temporary folder");
        let group = root.path().join(PARENT).join("one");
        fs::create_dir_all(&group).expect("created");
        for file in ["cgroup.controllers", "cgroup.subtree_control"] {
            fs::write(root.path().join(file), "").expect("written");
        }
        fs::write(root.path().join(PARENT).join("cgroup.subtree_control"), "").expect("written");
        for file in ["memory.max", "cpu.max"] {
            fs::write(group.join(file), "").expect("written");
        }
        ControlGroup::create_in(root.path(), "one", LIMITS).expect_err("no process can enter");
        fs::write(group.join("cgroup.procs"), "").expect("written");
        ControlGroup::create_in(root.path(), "one", LIMITS).expect("a group");
        let read = |file: &str| fs::read_to_string(group.join(file)).expect("read");
        assert_eq!(read("memory.max"), "67108864");
        assert_eq!(read("cpu.max"), "150000 100000");
    }

    #[test]
    fn a_system_without_groups_of_version_2_has_none() {
        let root = tempfile::tempdir().expect("temporary folder");
        ControlGroup::create_in(root.path(), "one", LIMITS).expect_err("no groups");
        assert!(!root.path().join(PARENT).exists());
    }
}
