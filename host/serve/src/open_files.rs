//! File descriptors, and who may have how many of them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than this many are never asked for.
const MAX_OPEN_FILES: u64 = 1 << 20;
/// Kept for everything that is no connection to a listener: files, databases, other servers.
const RESERVED_FILES: u64 = 256;

/// Raises the limit of open files to what the system allows this process, and returns it.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (now, hard) = (
        limit.current.unwrap_or(MAX_OPEN_FILES),
        limit.maximum.unwrap_or(MAX_OPEN_FILES),
    );
    let wanted = hard.min(MAX_OPEN_FILES).max(now);
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(_) => now,
    }
}

/// How many connections each listener may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionQuota {
    /// Each listener on TCP, where anyone may connect.
    pub tcp: usize,
    /// Each listener that only this machine reaches: Unix sockets, and that of operators.
    pub local: usize,
}

impl ConnectionQuota {
    /// Shares out `open_files` descriptors, `others` of which are needed elsewhere, among this many listeners of each
    /// kind: at most `most` for each, and a quarter of all for those that are local, so that a port that anyone reaches
    /// never takes the last one.
    #[must_use]
    pub fn allocate(open_files: u64, others: usize, most: usize, tcp: usize, local: usize) -> Self {
        let others = RESERVED_FILES.saturating_add(others as u64);
        // Where there are too few for that, the half of them.
        let left = open_files.saturating_sub(others).max(open_files / 2);
        let share = |all: u64, listeners: usize| {
            let each = all / (listeners.max(1) as u64);
            usize::try_from(each).unwrap_or(usize::MAX).clamp(1, most.max(1))
        };
        Self {
            tcp: share(left / 4 * 3, tcp),
            local: share(left / 4, local),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_share_what_there_is_and_local_ones_keep_theirs() {
        let quota = ConnectionQuota::allocate(1 << 20, 64, 4096, 1, 2);
        assert_eq!(
            quota,
            ConnectionQuota {
                tcp: 4096,
                local: 4096
            }
        );
        let ConnectionQuota { tcp, local } = ConnectionQuota::allocate(1024, 64, 4096, 2, 2);
        assert_eq!((tcp, local), (264, 88));
        assert!(2 * tcp + 2 * local + 320 <= 1024);
        let ConnectionQuota { tcp, local } = ConnectionQuota::allocate(256, 512, 4096, 1, 1);
        assert!(tcp > 0 && local > 0 && tcp + local <= 128);
    }

    #[test]
    fn the_limit_is_raised_and_never_lowered() {
        let before = getrlimit(Resource::Nofile).current.unwrap_or(MAX_OPEN_FILES);
        let after = raise_open_files();
        assert!(after >= before);
        assert_eq!(
            getrlimit(Resource::Nofile).current.unwrap_or(MAX_OPEN_FILES),
            after
        );
    }
}
