//! The host as a process: threads and signals.

use std::future::Future;
use std::io;
use std::time::Duration;

use postern_serve::Process;
use tokio::runtime::{Builder, Runtime};

use crate::{Host, Settings};

/// Creates the runtime that everything runs on.
///
/// It has more threads than there are cores: a policy that spins blocks its thread for a millisecond at a time, and the
/// other work of the host needs a free one.
///
/// # Errors
/// If the system does not provide the threads.
pub fn runtime() -> io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads((2 * cores).max(4))
        .thread_name("postern")
        .enable_all()
        .build()
}

impl Process for Host {
    type Settings = Settings;

    const STOP_TIMEOUT: Duration = Duration::from_millis(4850);
    const STOP_TIMEOUT_EXIT_CODE: i32 = 3;

    async fn apply(&mut self, settings: Settings) -> Result<(), String> {
        let left = self.reload(settings).await?;
        tracing::info!("settings reloaded: entries, manifest, signers and the signer selection");
        if !left.is_empty() {
            let left = left.join(", ");
            tracing::warn!(
                left,
                "these settings have changed since the start: restart the host to apply them"
            );
        }
        Ok(())
    }

    fn task_ended(&mut self) -> impl Future<Output = &'static str> {
        self.task_ended()
    }

    async fn shut_down(self) -> io::Result<()> {
        self.stop().await.map_err(io::Error::other)
    }
}
