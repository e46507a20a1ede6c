//! Terminal colours; off with `NO_COLOR` (no-color.org) or `TERM=dumb`, and where the stream is not a terminal.

use std::io::IsTerminal;

/// Colours text if enabled.
#[derive(Debug, Clone, Copy)]
pub struct Style(bool);

impl Style {
    /// The style of standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self(std::io::stdout().is_terminal() && colours_allowed())
    }

    /// The style of standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self(std::io::stderr().is_terminal() && colours_allowed())
    }

    /// No colours, whatever the stream is.
    #[must_use]
    pub const fn plain() -> Self {
        Self(false)
    }

    /// Green.
    #[must_use]
    pub fn success(self, text: &str) -> String {
        self.with("32", text)
    }

    /// Red.
    #[must_use]
    pub fn error(self, text: &str) -> String {
        self.with("31", text)
    }

    /// Yellow.
    #[must_use]
    pub fn warning(self, text: &str) -> String {
        self.with("33", text)
    }

    /// Bold.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

fn colours_allowed() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !no_color && !dumb
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_coloured_only_if_enabled() {
        assert_eq!(Style(false).error("x"), "x");
        assert_eq!(Style(true).error("x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
