//! What the agent finds out about its host. What can't be read is left out.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use chrono::{DateTime, SecondsFormat};
use muster_protocol::facts::{MAX_FACT_VALUES, is_fact_name_char};
use sysinfo::Networks;

use crate::platform;

type BuiltInFacts = BTreeMap<String, Vec<String>>;

/// Most interfaces and most disks that are reported.
const MAX_PARTS: usize = 32;

/// File systems of disks; others are of the kernel or of the network.
const DISK_TYPES: [&str; 12] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "vfat", "xfs",
    "zfs",
];

/// Names of vendors and products of machines, and the virtualisation that they stand for.
const MACHINES: [(&str, &str); 11] = [
    ("QEMU", "kvm"),
    ("KVM", "kvm"),
    ("VMware", "vmware"),
    ("VirtualBox", "virtualbox"),
    ("innotek", "virtualbox"),
    ("Virtual Machine", "hyper-v"),
    ("Xen", "xen"),
    ("Amazon EC2", "amazon"),
    ("Google Compute Engine", "google"),
    ("DigitalOcean", "kvm"),
    ("Parallels", "parallels"),
];

/// All of them.
pub(super) fn collect() -> BuiltInFacts {
    let mut found = BuiltInFacts::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            found.insert(name.to_owned(), vec![value]);
        }
    };
    let release = text("/etc/os-release").or_else(|| text("/usr/lib/os-release"));
    let release = release.unwrap_or_default();
    add("distribution", os_release(&release, "ID"));
    add("distribution_version", os_release(&release, "VERSION_ID"));
    add("kernel", sysinfo::System::kernel_version().ok());
    add("architecture", Some(std::env::consts::ARCH.to_owned()));
    add("virtualization", Some(virtualization().to_owned()));
    add("container", Some(container()));
    add("init_system", init_system());
    add("boot_time", boot_time(&text("/proc/stat").unwrap_or_default()));
    add("memory_bytes", memory_bytes(&text("/proc/meminfo").unwrap_or_default()));
    add("cpus", std::thread::available_parallelism().ok().map(|count| count.to_string()));
    if let Some(like) = os_release(&release, "ID_LIKE").filter(|like| !like.is_empty()) {
        let like = like.split_ascii_whitespace().take(MAX_FACT_VALUES).map(str::to_owned);
        found.insert("distribution_like".into(), like.collect());
    }
    add_addresses(&mut found);
    add_disks(&text("/proc/self/mountinfo").unwrap_or_default(), &mut found);
    found
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// A value of `os-release`, without its quotes.
fn os_release(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

fn virtualization() -> &'static str {
    let of = |name: &str| text(&format!("/sys/class/dmi/id/{name}")).unwrap_or_default();
    let machine = format!("{} {}", of("sys_vendor"), of("product_name"));
    if let Some((_, kind)) = MACHINES.into_iter().find(|(mark, _)| machine.contains(mark)) {
        return kind;
    }
    if text("/sys/hypervisor/type").is_some_and(|kind| kind.trim() == "xen") {
        return "xen";
    }
    let processors = text("/proc/cpuinfo").unwrap_or_default();
    let mut flags = processors.lines().filter(|line| line.starts_with("flags"));
    match flags
        .next()
        .is_some_and(|line| line.ends_with(" hypervisor") || line.contains(" hypervisor "))
    {
        true => "other",
        false => "none",
    }
}

fn container() -> String {
    if let Some(kind) = text("/run/systemd/container").filter(|kind| !kind.trim().is_empty()) {
        return kind.trim().to_owned();
    }
    let marks = [
        ("/var/run/secrets/kubernetes.io", "kubernetes"),
        ("/run/.containerenv", "podman"),
        ("/.dockerenv", "docker"),
        ("/dev/lxd", "lxc"),
    ];
    let mark = marks.into_iter().find(|(path, _)| Path::new(path).exists());
    mark.map_or("none", |(_, kind)| kind).to_owned()
}

/// What the host itself was started with. The agent may be started by something else.
fn init_system() -> Option<String> {
    let marks = [
        ("/run/systemd/system", "systemd"),
        ("/run/openrc", "openrc"),
        ("/run/runit", "runit"),
        ("/run/s6", "s6"),
    ];
    let mark = marks.into_iter().find(|(path, _)| Path::new(path).exists());
    mark.map(|(_, kind)| kind.to_owned())
}

/// When the host started, from `/proc/stat`.
fn boot_time(stat: &str) -> Option<String> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let at = DateTime::from_timestamp(seconds, 0)?;
    Some(at.to_rfc3339_opts(SecondsFormat::Secs, true))
}

fn memory_bytes(meminfo: &str) -> Option<String> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024).to_string())
}

/// A part of a name: other characters than a name may have become `_`.
fn part(text: &str) -> String {
    text.chars().map(|c| if is_fact_name_char(c) { c } else { '_' }).collect()
}

fn add_addresses(found: &mut BuiltInFacts) {
    let mut by_interface = BTreeMap::new();
    let Ok(networks) = Networks::new_with_refreshed_list() else { return };
    for (interface, data) in &networks {
        let addresses = data.ip_networks().iter().map(|network| network.addr);
        let mut addresses: Vec<IpAddr> = addresses.filter(is_reachable).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if !addresses.is_empty() {
            by_interface.insert(part(&interface.to_string_lossy()), addresses);
        }
    }
    let texts = |addresses: &mut dyn Iterator<Item = &IpAddr>| {
        addresses.take(MAX_FACT_VALUES).map(IpAddr::to_string).collect::<Vec<_>>()
    };
    let all = texts(&mut by_interface.values().flatten());
    for (interface, addresses) in by_interface.iter().take(MAX_PARTS) {
        found.insert(format!("addresses.{interface}"), texts(&mut addresses.iter()));
    }
    if !all.is_empty() {
        found.insert("addresses".to_owned(), all);
    }
}

/// False for addresses that another host can't use.
fn is_reachable(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || is_link_local)
}

/// The disks in `/proc/self/mountinfo`, each once, and the root.
fn add_disks(mounts: &str, found: &mut BuiltInFacts) {
    let mut devices = Vec::new();
    for line in mounts.lines() {
        let Some((place, kind)) = line.split_once(" - ") else { continue };
        let fields: Vec<&str> = place.split_ascii_whitespace().collect();
        let (Some(device), Some(mount)) = (fields.get(2), fields.get(4)) else { continue };
        let kind = kind.split_ascii_whitespace().next().unwrap_or_default();
        let is_disk = *mount == "/" || DISK_TYPES.contains(&kind);
        if !is_disk || devices.contains(device) || devices.len() >= MAX_PARTS {
            continue;
        }
        devices.push(device);
        let name = part(mount);
        // Two mount points may become the same name.
        if found.contains_key(&format!("disks.{name}.type")) {
            continue;
        }
        found.insert(format!("disks.{name}.type"), vec![kind.to_owned()]);
        if let Ok(bytes) = platform::disk_size_bytes(Path::new(mount)) {
            found.insert(format!("disks.{name}.size_bytes"), vec![bytes.to_string()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_protocol::facts::is_fact_name;

    #[test]
    fn this_host_has_facts_with_valid_names() {
        let found = collect();
        for name in ["kernel", "architecture", "boot_time", "cpus", "memory_bytes", "container"] {
            assert!(found.contains_key(name), "{name}: {found:?}");
        }
        assert!(found.keys().all(|name| is_fact_name(name)), "{found:?}");
    }

    #[test]
    fn files_of_the_system_are_read() {
        let release = "NAME=x\nID=ubuntu\nVERSION_ID=\"22.04\"\nID_LIKE='debian other'\n";
        assert_eq!(os_release(release, "ID").as_deref(), Some("ubuntu"));
        assert_eq!(os_release(release, "VERSION_ID").as_deref(), Some("22.04"));
        assert_eq!(os_release(release, "ID_LIKE").as_deref(), Some("debian other"));
        assert_eq!(os_release(release, "VERSION"), None);
        let boot = boot_time("cpu 1\nbtime 1767225600\n");
        assert_eq!(boot.as_deref(), Some("2026-01-01T00:00:00Z"));
        let memory = memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n");
        assert_eq!(memory.as_deref(), Some("2097152"));
        let mut found = BuiltInFacts::new();
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /proc rw - proc proc rw\n\
            3 1 8:1 / /again rw - ext4 /dev/a rw\n4 1 8:2 / /a\\040b rw shared:1 - xfs /dev/b rw\n";
        add_disks(mounts, &mut found);
        let names: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(names, ["disks./.size_bytes", "disks./.type", "disks./a_040b.type"]);
    }
}
