//! The progress display on standard error.

use indicatif::{ProgressDrawTarget, ProgressStyle};
use postern_audit::verify::Progress;

const BAR: &str = "{bar:30} {human_pos}/{human_len} events, {per_sec}, {eta} left";
const SPINNER: &str = "{spinner} {human_pos} events, {per_sec}";

/// A progress bar or a spinner. Draws nothing if standard error is not a terminal.
pub(super) struct ProgressBar(indicatif::ProgressBar);

impl ProgressBar {
    /// A bar; each update sets its total.
    pub(super) fn bar() -> Self {
        Self::new(Some(0), BAR)
    }

    /// A spinner, for an unknown total.
    pub(super) fn spinner() -> Self {
        Self::new(None, SPINNER)
    }

    fn new(length: Option<u64>, template: &str) -> Self {
        let bar = indicatif::ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    pub(super) fn update(&self, progress: Progress) {
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
    }

    pub(super) fn set_position(&self, done: u64) {
        self.0.set_position(done);
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
