//! What of Envoy's log belongs into an error.

/// How many lines an error carries at most: enough for every complaint about a configuration.
const LINES: usize = 60;
/// The levels of Envoy's chatter; at a start it lists hundreds of extensions.
const CHATTER: [&str; 3] = ["][info][", "][debug][", "][trace]["];

/// The last lines that are warnings or worse, or continue one; the very last lines if there are none.
pub(super) fn end(log: &str) -> String {
    let mut chatting = false;
    let mut serious: Vec<&str> = Vec::new();
    for line in log.lines() {
        // [2026-11-20 21:48:52.984][24583][critical][main] [source/server/server.cc:449] text
        if line.starts_with('[') {
            chatting = CHATTER.iter().any(|level| line.contains(level));
        }
        if !chatting {
            serious.push(line);
        }
    }
    if serious.is_empty() {
        serious = log.lines().collect();
    }
    let surplus = serious.len().saturating_sub(LINES);
    serious.into_iter().skip(surplus).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_kept_with_their_continuations() {
        let log = "[t][1][info][main] [a.cc:1] many\n  extensions\n\
                   [t][1][critical][wasm] [b.cc:2] rules[0]: wrong\nrules[1]: wrong\n\
                   [t][1][info][main] [a.cc:3] exiting";
        assert_eq!(
            end(log),
            "[t][1][critical][wasm] [b.cc:2] rules[0]: wrong\nrules[1]: wrong"
        );
    }

    #[test]
    fn without_complaints_the_last_lines_have_to_do() {
        let log: String = (0..100)
            .map(|number| format!("[t][1][info][main] {number}\n"))
            .collect();
        assert_eq!(end(&log).lines().count(), LINES);
        assert!(end(&log).ends_with("99"));
    }
}
