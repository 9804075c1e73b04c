//! Memory that is given back when it is no longer used.
//!
//! glibc keeps what was freed: after a few large pulls a larder that does nothing held 25 to 37 MB,
//! of which it used ten. Its settings can be made from the environment without unsafe code, but
//! only before the process begins, so the process begins again.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Give large blocks back at once, the heap's end when 128 KiB of it are free, and do not keep a
/// heap for each thread. See `docs/adr/0012-memory.md` for what each is worth.
const SETTINGS: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "131072"),
    ("MALLOC_TRIM_THRESHOLD_", "131072"),
    ("MALLOC_ARENA_MAX", "2"),
];

/// Starts this program again in this process, with the settings. Returns where that is not needed
/// (somebody has made settings of their own, or this is the second start) or not possible. They
/// are glibc's: the static program has musl, which keeps little and has nothing to be set.
pub(super) fn settle() {
    if !cfg!(target_env = "gnu") {
        return;
    }
    let is_set = |(name, _): &(&str, &str)| std::env::var_os(name).is_some();
    if SETTINGS.iter().any(is_set) {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("larder"));
    let error = Command::new(program)
        .arg0(name)
        .args(arguments)
        .envs(SETTINGS)
        .exec();
    // It works as well without, it only holds more memory.
    super::say(&format!("larder: memory settings not made: {error}"));
}
