//! Limits that the system applies to real processes.
//!
//! Many systems, and most containers that tests run in, have no groups of version 2 that a test may use. So the test
//! starts a kernel of its own, as a process (`linux.uml` of Debian's `user-mode-linux`), whose root is this system's,
//! read only. There it runs itself again.

use std::os::unix::process::CommandExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

const NAME: &str = "platform::cgroup::user_mode_tests::limits_hold_for_real_processes";
/// Set within the kernel of the test.
const INSIDE: &str = "MUSTER_USER_MODE_KERNEL";
const DONE: &str = "all limits hold";
const MEMORY: u64 = 16 << 20;
const CPU_PERCENT: u32 = 20;

#[test]
fn limits_hold_for_real_processes() {
    if std::env::var_os(INSIDE).is_some() {
        memory_is_limited();
        processors_are_limited();
        eprintln!("{DONE}");
        return;
    }
    let test = std::env::current_exe().expect("this program");
    // Beside this program: the new kernel has its own `/dev` and `/tmp`.
    let beside = test.parent().expect("its folder");
    let folder = tempfile::tempdir_in(beside).expect("temporary folder");
    let init = folder.path().join("init");
    let script = format!(
        "#!/bin/sh\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\nmount -t proc proc /proc\n\
         mount -t sysfs sysfs /sys\nmount -t cgroup2 none /sys/fs/cgroup\n\
         {INSIDE}=1 {} --exact {NAME} --nocapture\npoweroff -f\n",
        test.display()
    );
    fs::write(&init, script).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&init, mode).expect("executable");
    let kernel = Command::new("timeout")
        .args(["-k", "5", "120", "linux.uml", "mem=512M", "rootfstype=hostfs", "rootflags=/", "ro"])
        .args(["con=null", "con0=fd:0,fd:1", "quiet"])
        .arg(format!("init={}", init.display()))
        .stdin(Stdio::null())
        .output()
        .expect("a kernel: install the package user-mode-linux");
    let text = String::from_utf8_lossy(&kernel.stdout);
    assert!(text.contains(DONE), "{text}\n{}", String::from_utf8_lossy(&kernel.stderr));
}

/// Starts a shell within a group, as a shim starts a service.
fn shell(group: &ControlGroup, script: &str) -> std::process::Child {
    let mut entrance = group.entrance().expect("a file");
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script);
    // SAFETY: a write to an open file allocates nothing and takes no lock.
    unsafe { command.pre_exec(move || entrance.write_all(b"0")) };
    command.spawn().expect("started")
}

fn number(group: &ControlGroup, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(group.path.join(file)).expect("read");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn memory_is_limited() {
    let limits = GroupLimits { max_memory_bytes: Some(MEMORY), max_cpu_percent: None };
    let group = ControlGroup::create("memory", limits).expect("a group");
    let small = shell(&group, "x=$(head -c 1000000 /dev/zero | tr '\\0' x); test ${#x} = 1000000");
    assert!(small.wait_with_output().expect("ended").status.success(), "little memory is there");
    let large = shell(&group, "x=$(head -c 64000000 /dev/zero | tr '\\0' x); exit 0");
    let status = large.wait_with_output().expect("ended").status;
    assert!(status.signal() == Some(9) || !status.success(), "{status:?}");
    assert!(number(&group, "memory.events", "oom_kill ") >= 1);
    group.remove();
}

fn processors_are_limited() {
    let limits = GroupLimits { max_memory_bytes: None, max_cpu_percent: Some(CPU_PERCENT) };
    let group = ControlGroup::create("cpu", limits).expect("a group");
    let mut busy = shell(&group, "while :; do :; done");
    let started = Instant::now();
    // Until it was held back several times.
    while number(&group, "cpu.stat", "nr_throttled ") < 10 {
        assert!(started.elapsed() < Duration::from_secs(60), "it was never held back");
        std::thread::yield_now();
    }
    let used_us = number(&group, "cpu.stat", "usage_usec ");
    let periods = number(&group, "cpu.stat", "nr_periods ");
    busy.kill().expect("killed");
    busy.wait().expect("ended");
    // Without a limit it would use all of it. The clock of this kernel is coarse on a busy machine.
    let all_us = periods * CPU_PERIOD_US;
    assert!(used_us <= all_us / 2, "{used_us} us of {all_us} us in {periods} periods");
    group.remove();
}
