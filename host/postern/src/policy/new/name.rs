//! Validates the name of a crate.

/// Names that cargo or the compiler rejects, or that mean something else inside the crate.
const RESERVED: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "panic_abort",
    "panic_unwind",
    "postern-sdk",
    "postern_sdk",
    "priv",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "serde_json",
    "spin-sdk",
    "spin_sdk",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// Validates the name of a crate by cargo's rules.
pub(super) fn parse(text: &str) -> Result<String, String> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) || !text.chars().all(part) || text.len() > 64 {
        return Err(
            "must begin with a letter, followed by letters, digits, - and _; at most 64 characters"
                .to_owned(),
        );
    }
    if RESERVED.contains(&text) {
        return Err("is reserved by Rust or used by a dependency of the crate".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_cargos_rules() {
        for good in ["quota", "a", "Two-words_2"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(65);
        for bad in [
            "",
            "7a",
            "-a",
            "_a",
            "a b",
            "a/b",
            "..",
            "é",
            "fn",
            "test",
            "std",
            "postern-sdk",
            &long,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
