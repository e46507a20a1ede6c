//! Captures what modules write to the host's log.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::subscriber::NoSubscriber;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::style::Style;
use crate::text::printable;

/// The tracing target of a policy's log lines.
const TARGET: &str = "policy";

/// A line that a module logged.
#[derive(Debug)]
pub(super) struct LogLine {
    level: Level,
    message: String,
}

/// Runs `work` on this thread and captures what modules log meanwhile.
pub(super) fn capture<T>(work: impl FnOnce() -> T) -> (T, Vec<LogLine>) {
    let lines = CaptureLayer::default();
    let subscriber = tracing_subscriber::registry().with(lines.clone());
    let done = tracing::subscriber::with_default(subscriber, work);
    let mut lines = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
    (done, std::mem::take(&mut *lines))
}

/// Runs `work` on this thread without any logging.
pub(super) fn suppress<T>(work: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(NoSubscriber::new(), work)
}

/// Formats the lines for a terminal, each after `indent`.
pub(super) fn format_lines(lines: &[LogLine], indent: &str, style: Style) -> String {
    let lines = lines.iter().map(|line| {
        let level = format!("{:<5}", line.level.as_str().to_ascii_lowercase());
        let level = match line.level {
            Level::ERROR => style.error(&level),
            Level::WARN => style.warning(&level),
            _ => level,
        };
        format!("{indent}log {level}  {}\n", printable(&line.message))
    });
    lines.collect()
}

#[derive(Debug, Clone, Default)]
struct CaptureLayer(Arc<Mutex<Vec<LogLine>>>);

impl<S: Subscriber> Layer<S> for CaptureLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut message = MessageVisitor(String::new());
        event.record(&mut message);
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(LogLine {
            level: *event.metadata().level(),
            message: message.0,
        });
    }
}

struct MessageVisitor(String);

impl Visit for MessageVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_modules_are_captured() {
        let ((), lines) = capture(|| {
            tracing::warn!(target: "policy", policy = "a", request_id = "7", "{}", "slow");
            tracing::error!("of the host");
            suppress(|| tracing::warn!(target: "policy", "unheard"));
        });
        assert_eq!(format_lines(&lines, "  ", Style::stderr()), "  log warn   slow\n");
    }
}
