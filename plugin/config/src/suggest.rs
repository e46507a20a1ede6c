//! Suggestions for names that do not exist.

/// `; did you mean "x"?` for the known name that is closest to `wanted`; all known names if none is close.
#[must_use]
pub fn suggest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(wanted, name), *name))
        .filter(|(distance, _)| *distance <= wanted.len().div_ceil(3).min(4))
        .min();
    match nearest {
        Some((_, name)) => format!("; did you mean \"{name}\"?"),
        None if known.is_empty() => String::from("; none is defined"),
        None => format!("; the defined names are: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_or_all_of_them() {
        assert_eq!(suggest("sigl", ["sigil", "other"]), "; did you mean \"sigil\"?");
        assert_eq!(
            suggest("x", ["sigil", "other"]),
            "; the defined names are: sigil, other"
        );
        assert_eq!(suggest("x", []), "; none is defined");
    }
}
