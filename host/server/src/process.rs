//! A host as a process: its threads, and what it does at signals.

use std::future::Future;
use std::io;
use std::time::Duration;

use postern_serve::Process;
use tokio::runtime::{Builder, Runtime};

use crate::{Host, Settings};

/// The threads that everything runs on.
///
/// More than there are cores: a policy that spins holds its thread for a millisecond at a time, and what else the
/// host has to do must find one that is free.
///
/// # Errors
/// If the system gives none.
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
        tracing::info!("settings read again: entries, manifest, signers and who is asked to sign");
        if !left.is_empty() {
            let left = left.join(", ");
            tracing::warn!(
                left,
                "these settings differ from those of the start: restart the host to take them"
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
