//! The memory limit of the control group that this process is in: versions 1 and 2, each group up to the root.

use std::path::{Path, PathBuf};

/// The least limit of the process's group and of those above it, and the file that says it. `proc` is `/proc`; the
/// mount points it names are looked up below `root`, which is `/` but in tests.
pub(super) fn limit(proc: &Path, root: &Path) -> Option<(usize, PathBuf)> {
    let read = |name: &str| std::fs::read_to_string(proc.join("self").join(name)).ok();
    let (groups, mounts) = (read("cgroup")?, read("mountinfo")?);
    let mut least: Option<(usize, PathBuf)> = None;
    for mount in mounts.lines().filter_map(Mount::parse) {
        let Some(group) = group_of(&groups, mount.version) else { continue };
        let file = match mount.version {
            Version::One => "memory.limit_in_bytes",
            Version::Two => "memory.max",
        };
        let top = root.join(mount.point.trim_start_matches('/'));
        // In a container the group's path may be the host's, and the mount begins at the group itself.
        let inside = group.strip_prefix(mount.root.trim_end_matches('/')).unwrap_or("");
        let below = top.join(inside.trim_start_matches('/'));
        for folder in below.ancestors().take_while(|folder| folder.starts_with(&top)) {
            let path = folder.join(file);
            let found = std::fs::read_to_string(&path).ok().and_then(|text| bytes(&text));
            if let Some(found) = found.filter(|found| least.as_ref().is_none_or(|(least, _)| found < least)) {
                least = Some((found, path));
            }
        }
    }
    least
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where a hierarchy that can limit memory is mounted.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    version: Version,
    /// The group that is seen at the mount point.
    root: &'a str,
    point: &'a str,
}

impl<'a> Mount<'a> {
    /// A line of `/proc/self/mountinfo`: `ID PARENT DEVICE ROOT POINT OPTIONS… - TYPE SOURCE OPTIONS`.
    fn parse(line: &'a str) -> Option<Self> {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ').skip(3);
        let (root, point) = (front.next()?, front.next()?);
        let mut back = back.split(' ');
        let kind = back.next()?;
        let options = back.nth(1).unwrap_or("");
        let version = match kind {
            "cgroup2" => Version::Two,
            "cgroup" if options.split(',').any(|o| o == "memory") => Version::One,
            _ => return None,
        };
        Some(Self { version, root, point })
    }
}

/// The process's group, of `/proc/self/cgroup`: `0::/path` in version 2, `4:memory:/path` in version 1.
fn group_of(text: &str, version: Version) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is = match version {
            Version::One => controllers.split(',').any(|c| c == "memory"),
            Version::Two => number == "0" && controllers.is_empty(),
        };
        is.then_some(path)
    })
}

/// Version 1 says "none" by a number near 2⁶³, version 2 by the word `max`.
fn bytes(text: &str) -> Option<usize> {
    text.trim().parse::<u64>().ok().filter(|n| *n < 1 << 60).and_then(|n| usize::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `/proc` and `/sys` of a machine, made of the files given.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn limit_of(files: &[(&str, &str)]) -> Option<usize> {
        let root = machine(files);
        limit(&root.path().join("proc"), root.path()).map(|(bytes, _)| bytes)
    }

    const V2: &str = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "30 23 0:27 / /sys/fs/cgroup/memory rw shared:5 - cgroup cgroup rw,memory\n\
                      31 23 0:28 / /sys/fs/cgroup/cpu rw shared:6 - cgroup cgroup rw,cpu\n";

    #[test]
    fn the_least_limit_of_a_group_and_those_above_it_counts_in_version_2() {
        let mut files = vec![
            ("proc/self/cgroup", "0::/user.slice/job\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/user.slice/memory.max", "629145600\n"),
            ("sys/fs/cgroup/user.slice/job/memory.max", "max\n"),
        ];
        assert_eq!(limit_of(&files), Some(600 << 20));
        files[3].1 = "1000000\n";
        assert_eq!(limit_of(&files), Some(1_000_000));
        files[2].1 = "max\n";
        files[3].1 = "max\n";
        assert_eq!(limit_of(&files), None);
    }

    #[test]
    fn version_1_is_read_of_the_memory_controller_alone() {
        let files = [
            ("proc/self/cgroup", "5:memory:/docker/ab\n4:cpu:/docker/ab\n0::/\n"),
            ("proc/self/mountinfo", V1),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes", "734003200\n"),
            ("sys/fs/cgroup/cpu/docker/ab/memory.limit_in_bytes", "1\n"),
        ];
        assert_eq!(limit_of(&files), Some(700 << 20));
    }

    #[test]
    fn of_both_versions_the_least_counts() {
        let both = V1.to_owned() + &V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ");
        let files = [
            ("proc/self/cgroup", "5:memory:/a\n0::/b\n"),
            ("proc/self/mountinfo", both.as_str()),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2000000"),
            ("sys/fs/cgroup/unified/b/memory.max", "3000000"),
        ];
        assert_eq!(limit_of(&files), Some(2_000_000));
    }

    #[test]
    fn in_a_container_the_mount_begins_at_the_group() {
        let mount = V2.replace(" / /sys", " /docker/ab /sys");
        let mut files = vec![
            ("proc/self/cgroup", "0::/docker/ab/job\n"),
            ("proc/self/mountinfo", mount.as_str()),
            ("sys/fs/cgroup/memory.max", "5000000\n"),
            ("sys/fs/cgroup/job/memory.max", "4000000\n"),
        ];
        assert_eq!(limit_of(&files), Some(4_000_000));
        // A group that the mount does not show: its root says what there is.
        files[0].1 = "0::/elsewhere\n";
        assert_eq!(limit_of(&files), Some(5_000_000));
    }

    #[test]
    fn without_control_groups_or_with_damaged_files_there_is_no_limit() {
        assert_eq!(limit_of(&[]), None);
        let files = [
            ("proc/self/cgroup", "nonsense\n0::\n5:memory\n"),
            (
                "proc/self/mountinfo",
                "short\n1 2 3 - cgroup2\n29 23 0:26 / /sys/fs/cgroup rw - cgroup2 c rw\n",
            ),
            ("sys/fs/cgroup/memory.max", "-4\n"),
        ];
        assert_eq!(limit_of(&files), None);
    }
}
