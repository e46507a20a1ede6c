//! How far it is, for people at a terminal.

use indicatif::{ProgressDrawTarget, ProgressStyle};
use postern_audit::verify::Progress;

const BAR: &str = "{bar:30} {human_pos}/{human_len} events, {per_sec}, {eta} left";
const SPINNER: &str = "{spinner} {human_pos} events, {per_sec}";

/// A bar on standard error. On anything but a terminal it draws nothing.
pub(super) struct ProgressBar(indicatif::ProgressBar);

impl ProgressBar {
    /// Where it ends is told with each step.
    pub(super) fn bar() -> Self {
        Self::new(Some(0), BAR)
    }

    /// Where it ends is not known.
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
