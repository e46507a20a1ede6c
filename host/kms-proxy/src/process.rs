//! The proxy as a process: signals.

use std::future::Future;
use std::io;
use std::time::Duration;

use postern_serve::Process;

use crate::proxy::LIMITS;
use crate::{Proxy, Settings};

impl Process for Proxy {
    type Settings = Settings;

    /// A call into the module may hang: one second more than for requests in progress.
    const STOP_TIMEOUT: Duration = LIMITS.stop_timeout.saturating_add(Duration::from_secs(1));
    /// A restart may help.
    const STOP_TIMEOUT_EXIT_CODE: i32 = 2;

    async fn apply(&mut self, settings: Settings) -> Result<(), String> {
        self.reload(settings).await?;
        tracing::info!("settings reloaded: signers, callers and certificates");
        Ok(())
    }

    fn task_ended(&mut self) -> impl Future<Output = &'static str> {
        self.task_ended()
    }

    async fn shut_down(self) -> io::Result<()> {
        self.stop().await;
        Ok(())
    }
}
