//! Headers given with `-H`.

use anyhow::{Context, Result, anyhow};

/// Parses all headers, in order. An error names the position, not the header: it may hold a credential.
pub(crate) fn parse(lines: &[String]) -> Result<Vec<(String, String)>> {
    let numbered = (1..).zip(lines);
    numbered
        .map(|(number, line): (u32, _)| {
            header(line)
                .map_err(|why| anyhow!(why))
                .with_context(|| format!("-H number {number}"))
        })
        .collect()
}

/// Parses `Name: value`. As in Envoy, the name is in lower case and the value is trimmed.
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once(':')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("write \"Name: value\"; pseudo-headers are set by TARGET, -X and --host")?;
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !name.bytes().all(token) {
        return Err("the name contains an invalid character; no space may precede the colon".to_owned());
    }
    if value.contains(['\r', '\n', '\0']) {
        return Err("the value contains a line break or a zero byte".to_owned());
    }
    Ok((
        name.to_ascii_lowercase(),
        value.trim_matches([' ', '\t']).to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_normalised_as_in_envoy() {
        for (text, wanted) in [
            ("X-Api-Key:  a b ", Some(("x-api-key", "a b"))),
            ("x: a:b", Some(("x", "a:b"))),
            ("x:", Some(("x", ""))),
            ("x", None),
            (":path: /", None),
            ("x : 1", None),
            ("x: a\nb: c", None),
        ] {
            let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(header(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn a_malformed_header_is_not_printed() {
        let lines = ["x: 1".to_owned(), "authorization Bearer hunter2".to_owned()];
        let error = format!("{:#}", parse(&lines).unwrap_err());
        assert!(
            error.starts_with("-H number 2: write") && !error.contains("hunter2"),
            "{error}"
        );
    }
}
