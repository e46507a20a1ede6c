//! The part of Envoy's log that goes into an error.

/// The maximum number of lines; enough for all errors in a configuration.
const LINES: usize = 60;
/// The levels below warning. At its start Envoy logs hundreds of extensions at `info`.
const LOW_LEVELS: [&str; 3] = ["][info][", "][debug][", "][trace]["];

/// The last lines of level warning or above, with their continuation lines; if there are none, the last lines.
pub(super) fn last_problems(log: &str) -> String {
    let mut skipping = false;
    let mut problems: Vec<&str> = Vec::new();
    for line in log.lines() {
        // [2026-11-20 21:48:52.984][24583][critical][main] [source/server/server.cc:449] text
        if line.starts_with('[') {
            skipping = LOW_LEVELS.iter().any(|level| line.contains(level));
        }
        if !skipping {
            problems.push(line);
        }
    }
    if problems.is_empty() {
        problems = log.lines().collect();
    }
    let surplus = problems.len().saturating_sub(LINES);
    problems.into_iter().skip(surplus).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_kept_with_their_continuation_lines() {
        let log = "[t][1][info][main] [a.cc:1] many\n  extensions\n\
                   [t][1][critical][wasm] [b.cc:2] rules[0]: wrong\nrules[1]: wrong\n\
                   [t][1][info][main] [a.cc:3] exiting";
        assert_eq!(
            last_problems(log),
            "[t][1][critical][wasm] [b.cc:2] rules[0]: wrong\nrules[1]: wrong"
        );
    }

    #[test]
    fn without_errors_the_last_lines_are_kept() {
        let log: String = (0..100)
            .map(|number| format!("[t][1][info][main] {number}\n"))
            .collect();
        assert_eq!(last_problems(&log).lines().count(), LINES);
        assert!(last_problems(&log).ends_with("99"));
    }
}
