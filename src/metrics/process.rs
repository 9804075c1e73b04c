//! The process, by the names that Prometheus's clients in all languages give it.

use std::fs;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};

/// What is known of this process; what the system does not tell is `None`.
#[derive(Debug)]
pub(super) struct Process {
    /// Time on a processor, in seconds.
    pub(super) cpu: Option<f64>,
    /// Bytes in memory.
    pub(super) resident: Option<u64>,
    /// Bytes of address space.
    pub(super) virtual_size: Option<u64>,
    /// Files, sockets and pipes.
    pub(super) open_files: Option<u64>,
    /// How many it may have.
    pub(super) most_files: Option<u64>,
}

impl Process {
    pub(super) fn look() -> Self {
        let status = fs::read_to_string("/proc/self/status").ok();
        let status = status.as_deref();
        let schedstat = fs::read_to_string("/proc/self/stat").ok();
        let open_files = fs::read_dir("/proc/self/fd").ok();
        Self {
            cpu: schedstat.as_deref().and_then(cpu_seconds),
            resident: status.and_then(|text| kibibytes(text, "VmRSS:")),
            virtual_size: status.and_then(|text| kibibytes(text, "VmSize:")),
            // The directory itself is one of them while it is read.
            open_files: open_files.map(|files| (files.count() as u64).saturating_sub(1)),
            most_files: getrlimit(Resource::Nofile).current,
        }
    }
}

/// `VmRSS:     1234 kB`, in bytes.
fn kibibytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

/// proc(5): fields 14 and 15 of `stat`, in ticks, of which Linux has shown a hundred a second on
/// every machine since 2.6. The program's name before them may hold anything, but no `)` after its own.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    let ticks = f64::from(next()?) + f64::from(next()?);
    Some(ticks / 100.0)
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        let process = Process::look();
        assert!(process.cpu.is_some());
        assert!(process.resident.unwrap() > 1 << 20);
        assert!(process.virtual_size.unwrap() > process.resident.unwrap());
        assert!(process.open_files.unwrap() >= 3);
        assert!(process.most_files.unwrap() >= process.open_files.unwrap());
    }

    #[test]
    fn a_name_with_brackets_and_spaces_shifts_nothing() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (a"), None);
        assert_eq!(
            kibibytes("Name:\tx\nVmRSS:\t  12 kB\n", "VmRSS:"),
            Some(12 << 10)
        );
        assert_eq!(kibibytes("VmRSS:\t", "VmRSS:"), None);
    }
}
