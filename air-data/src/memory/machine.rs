//! How much memory there is: the machine's, or less where the process's control group says so.

use std::fs;
use std::path::Path;

/// Where nothing can be found out.
const UNKNOWN_BYTES: u64 = 8 << 30;

/// The memory this process may have, in bytes.
pub(super) fn memory_bytes() -> u64 {
    let physical = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = limit_files(&groups)
        .iter()
        .filter_map(|path| limit(&fs::read_to_string(Path::new("/sys/fs/cgroup").join(path)).ok()?))
        .min();
    let known = physical.unwrap_or(UNKNOWN_BYTES);
    limit.map_or(known, |limit| limit.min(known))
}

/// `MemTotal` of `/proc/meminfo`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The files with limits that hold for the process: of its groups and of all groups around them, in both versions of control groups.
fn limit_files(groups: &str) -> Vec<String> {
    let mut files = vec!["memory.max".to_owned(), "memory/memory.limit_in_bytes".to_owned()];
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(kinds), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (root, name) = match kinds {
            "" => ("", "memory.max"),
            kinds if kinds.split(',').any(|kind| kind == "memory") => ("memory/", "memory.limit_in_bytes"),
            _ => continue,
        };
        let mut path = path.trim_matches('/');
        while !path.is_empty() {
            files.push(format!("{root}{path}/{name}"));
            path = path.rfind('/').map_or("", |at| &path[..at]);
        }
    }
    files
}

/// A limit, unless it says that there is none.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_s_memory_is_read() {
        assert_eq!(total("MemTotal:       24565032 kB\nMemFree: 1 kB\n"), Some(24_565_032 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert!(memory_bytes() > 1 << 20);
    }

    #[test]
    fn limits_of_all_groups_around_are_looked_at() {
        assert_eq!(limit("max\n"), None);
        assert_eq!(limit("1073741824\n"), Some(1 << 30));
        let files = limit_files("0::/user.slice/job-1\n");
        assert_eq!(files[2..], ["user.slice/job-1/memory.max", "user.slice/memory.max"]);
        let files = limit_files("5:cpu,memory:/docker/x\n4:pids:/y\n");
        assert_eq!(
            files[2..],
            ["memory/docker/x/memory.limit_in_bytes", "memory/docker/memory.limit_in_bytes"]
        );
    }
}
