//! Resource usage of a process, from Linux `/proc`.

use std::fs;
use std::io;

/// The kernel reports CPU time to user space in units of 1/100 s (USER_HZ), whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of all threads of a process.
pub(super) fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks(&stat)
        .map(|ticks| ticks / TICKS_PER_SECOND)
        .ok_or_else(|| unexpected("stat"))
}

/// utime + stime. The second field is the name of the program in parentheses and may contain any character, so fields
/// are counted from the last parenthesis: utime and stime are the 12th and 13th after it (proc_pid_stat(5)).
fn ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// The resident set size.
pub(super) fn rss_bytes(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kibibytes = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    kibibytes
        .map(|kibibytes| kibibytes * 1024)
        .ok_or_else(|| unexpected("status"))
}

fn unexpected(file: &str) -> io::Error {
    io::Error::other(format!("unexpected format of /proc/PID/{file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_may_contain_parentheses_and_spaces() {
        let stat = "42 (a ) (b) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 100 1000 50";
        assert_eq!(ticks(stat), Some(12.0));
        assert_eq!(ticks("42 (short) S 1"), None);
    }

    #[test]
    fn this_process_is_measured() {
        assert!(rss_bytes(std::process::id()).unwrap() > 100_000);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
