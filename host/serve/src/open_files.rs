//! Raises the limit of file descriptors and divides it among listeners.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Upper bound of the limit that is requested.
const MAX_OPEN_FILES: u64 = 1 << 20;
/// Reserved for everything other than connections to listeners: files, databases, other servers.
const RESERVED_FILES: u64 = 256;

/// Raises the soft limit of open files as far as the system allows, and returns it.
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

/// The maximum number of connections of each listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionQuota {
    /// For each TCP listener, which anyone may reach.
    pub tcp: usize,
    /// For each listener that only this machine reaches: Unix sockets, and the operators' listener.
    pub local: usize,
}

impl ConnectionQuota {
    /// Divides `open_files` descriptors, of which `others` are needed elsewhere, among the listeners: at most `most`
    /// for each, with a quarter of all for local ones, so that a port that anyone reaches never takes the last
    /// descriptor.
    #[must_use]
    pub fn allocate(open_files: u64, others: usize, most: usize, tcp: usize, local: usize) -> Self {
        let others = RESERVED_FILES.saturating_add(others as u64);
        // If there are too few for that, half of them.
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
