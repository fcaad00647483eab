//! How much memory there is for this process: the machine's, or what its cgroups leave of it.

use std::path::Path;

/// Bytes that this process may have in memory, as the kernel would end it above. `u64::MAX` if it does not say.
pub fn available_bytes() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = of_machine(&read("/proc/meminfo")).unwrap_or(u64::MAX);
    let files = limit_files(&read("/proc/self/cgroup"));
    let limits = files
        .iter()
        .filter_map(|file| read(file).trim().parse().ok());
    limits.fold(machine, u64::min)
}

/// proc(5), meminfo.
fn of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// The files that may hold a limit, of the process's group and all above it: cgroups(7), of both versions. Inside a container
/// the group's own name is often hidden, and the mount is the group.
fn limit_files(cgroup: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (mount, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            controllers if controllers.split(',').any(|one| one == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for group in Path::new(group).ancestors() {
            let group = group.to_string_lossy();
            files.push(format!("{mount}{}/{file}", group.trim_end_matches('/')));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_looked_for_in_the_group_and_all_above_it() {
        assert_eq!(
            limit_files("0::/kubepods/pod1/c2\n"),
            [
                "/sys/fs/cgroup/kubepods/pod1/c2/memory.max",
                "/sys/fs/cgroup/kubepods/pod1/memory.max",
                "/sys/fs/cgroup/kubepods/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            limit_files("8:pids:/a\n4:memory:/b\n0::/\n"),
            [
                "/sys/fs/cgroup/memory/b/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory.max",
            ]
        );
    }

    #[test]
    fn the_machine_says_what_it_has() {
        let meminfo = "MemTotal:       24683520 kB\nMemFree:        123 kB\n";
        assert_eq!(of_machine(meminfo), Some(24_683_520 * 1024));
        assert!(available_bytes() > 64 << 20);
    }
}
