//! Detects numbers that the canonical form does not preserve.
//!
//! RFC 8785 formats a number as the nearest double, so `9007199254740993` and `9007199254740992` have the same canonical
//! form and the same signature, but an integer parser distinguishes them. Approvals of a body with such a number would be
//! ambiguous.

/// Whether every number in a JSON text has the value of the shortest decimal of its double, in any notation: `1.50`,
/// `15e-1` and `1.5` do.
pub(crate) fn numbers_are_exact(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some((first, after)) = rest.split_first() {
        rest = match first {
            b'"' => after_string(after),
            b'-' | b'0'..=b'9' => {
                let length = rest.iter().take_while(|byte| is_part_of_number(**byte)).count();
                let (number, after) = rest.split_at(length);
                if !str::from_utf8(number).is_ok_and(is_exact) {
                    return false;
                }
                after
            }
            _ => after,
        };
    }
    true
}

fn is_part_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

fn after_string(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = match rest {
            [b'\\', _, after @ ..] => after,
            [b'"', after @ ..] => return after,
            [_, after @ ..] => after,
            [] => return rest,
        };
    }
}

fn is_exact(number: &str) -> bool {
    let Ok(double) = number.parse::<f64>() else {
        return false;
    };
    let exact = decimal(number);
    double.is_finite() && exact.is_some() && exact == decimal(&format!("{double:e}"))
}

/// Sign, digits without leading and trailing zeros, and the power of ten of the last digit.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (negative, number) = match number.strip_prefix('-') {
        Some(number) => (true, number),
        None => (false, number),
    };
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let places = i64::try_from(fraction.len()).ok()?;
    let exponent = exponent
        .parse::<i64>()
        .ok()?
        .checked_add(zeros)?
        .checked_sub(places)?;
    match significant.trim_start_matches('0') {
        "" => Some((false, String::new(), 0)),
        digits => Some((negative, digits.to_owned(), exponent)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers() {
        for (number, expected) in [
            ("0", true),
            ("-0", true),
            ("-0.0e7", true),
            ("1", true),
            ("100", true),
            ("1e2", true),
            ("1.0", true),
            ("0.1", true),
            ("0.10", true),
            ("1.50E+01", true),
            ("0.30000000000000004", true),
            ("9007199254740991", true),
            ("9007199254740992", true),
            ("9007199254740993", false),
            ("-9007199254740993", false),
            ("18446744073709551615", false),
            ("18446744073709552000", true),
            ("1767225600000000000", true),
            ("0.1000000000000000055", false),
            ("100.00000000000000001", false),
            ("1.7976931348623157e308", true),
            ("1e309", false),
            ("5e-324", true),
            ("1e-400", false),
            ("0e99999999999999999999", false),
        ] {
            assert_eq!(is_exact(number), expected, "{number}");
            let inside = format!(r#"{{"a": [true, {number}], "b": "x"}}"#);
            assert_eq!(numbers_are_exact(inside.as_bytes()), expected, "{inside}");
        }
    }

    #[test]
    fn digits_in_strings_are_ignored() {
        for text in [
            r#""9007199254740993""#,
            r#"{"9007199254740993": "a\"9007199254740993"}"#,
            r#"["\\", "-", "1e999", "é9007199254740993"]"#,
            "null",
            "",
        ] {
            assert!(numbers_are_exact(text.as_bytes()), "{text}");
        }
        assert!(!numbers_are_exact(br#"["\\", 9007199254740993]"#));
    }

    proptest! {
        #[test]
        fn printed_doubles_are_exact(double in any::<f64>().prop_filter("finite", |f| f.is_finite())) {
            let (scientific, plain) = (format!("{double:e}"), format!("{double}"));
            prop_assert!(is_exact(&scientific) && is_exact(&plain));
        }

        #[test]
        fn exact_integers_with_equal_doubles_are_equal(a in any::<i64>(), b in -3_i64..4) {
            let b = a.saturating_add(b);
            if is_exact(&a.to_string()) && is_exact(&b.to_string()) && a as f64 == b as f64 {
                prop_assert_eq!(a, b);
            }
        }

        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = numbers_are_exact(&bytes);
        }
    }
}
