//! The machine and the programs of a benchmark.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command;

/// The processor and the programs' versions. Contains nothing that identifies the machine or its owner.
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) envoy: String,
    pub(super) rustc: String,
    pub(super) wrk: String,
}

impl Machine {
    pub(super) fn detect(envoy: &Path, cores: usize) -> Result<Self> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let processor = processor
            .map_or("unknown processor", |(_, model)| model)
            .to_owned();
        let envoy = command::stdout(Command::new(envoy).arg("--version"))?;
        let rustc = command::stdout(Command::new("rustc").arg("--version"))?;
        // wrk prints its version with its usage and exits with 1.
        let wrk = command::capture(Command::new("wrk").arg("--version"))?;
        Ok(Self {
            processor,
            cores,
            envoy: version(&envoy),
            rustc: version(&rustc),
            wrk: version(&wrk.stdout),
        })
    }
}

/// The first word that looks like a version number.
fn version(text: &str) -> String {
    let words = text.split([' ', '/', '\n']);
    let mut numbers =
        words.filter(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
    numbers.next().unwrap_or("unknown version").to_owned()
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_are_found() {
        assert_eq!(
            version("envoy  version: 0123abc/1.40.0/Clean/RELEASE/BoringSSL"),
            "1.40.0"
        );
        assert_eq!(version("rustc 1.95.0 (59807616e 2026-04-14)"), "1.95.0");
        assert_eq!(version("wrk debian/4.1.0-3 [epoll] Copyright"), "4.1.0-3");
        assert_eq!(version("wrk"), "unknown version");
    }
}
