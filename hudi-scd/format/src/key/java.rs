//! Numbers in Java's text format.

/// Formats like `Double.toString`: the shortest digits that identify the number, with an exponent (`1.0E7`)
/// from ten million on and below a thousandth. (Java before 19 prints some numbers with more digits than
/// necessary. Those numbers differ here.)
pub(super) fn double(value: f64) -> String {
    number(value.is_nan(), value.is_infinite(), value == 0.0, value.is_sign_negative(), || {
        let text = format!("{:e}", value.abs());
        // Java prints at least two digits, and chooses the closest ones: 4.9E-324, not 5.0E-324.
        if text.contains('.') { text } else { format!("{:.1e}", value.abs()) }
    })
}

/// Formats like `Float.toString`.
pub(super) fn float(value: f32) -> String {
    number(value.is_nan(), value.is_infinite(), value == 0.0, value.is_sign_negative(), || {
        let text = format!("{:e}", value.abs());
        if text.contains('.') { text } else { format!("{:.1e}", value.abs()) }
    })
}

fn number(
    is_nan: bool,
    is_infinite: bool,
    is_zero: bool,
    is_negative: bool,
    scientific: impl FnOnce() -> String,
) -> String {
    let sign = if is_negative && !is_nan { "-" } else { "" };
    if is_nan {
        return "NaN".to_owned();
    }
    if is_infinite {
        return format!("{sign}Infinity");
    }
    if is_zero {
        return format!("{sign}0.0");
    }
    let text = scientific();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_end_matches('0');
    let or_zero = |text: &str| if text.is_empty() { "0".to_owned() } else { text.to_owned() };
    match exponent {
        0..7 => {
            let whole = exponent as usize + 1;
            let padded = format!("{digits:0<whole$}");
            format!("{sign}{}.{}", &padded[..whole], or_zero(&padded[whole..]))
        }
        -3..0 => format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize)),
        _ => format!("{sign}{}.{}E{exponent}", &digits[..1], or_zero(&digits[1..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with keys that Spark with Hudi 0.15 created.
    #[test]
    fn numbers_are_those_of_java() {
        for (value, text) in [
            (1.5, "1.5"),
            (100.0, "100.0"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (1e-4, "1.0E-4"),
            (1e-3, "0.001"),
            (0.1, "0.1"),
            (1e21, "1.0E21"),
            (f64::MAX, "1.7976931348623157E308"),
            (5e-324, "4.9E-324"),
            (123_456_789.125, "1.23456789125E8"),
            (2e-3, "0.002"),
            (-0.0, "-0.0"),
            (-12.25, "-12.25"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), text);
        }
        for (value, text) in [
            (1.5, "1.5"),
            (100.0, "100.0"),
            (1e7, "1.0E7"),
            (1e-4, "1.0E-4"),
            (3.4e38, "3.4E38"),
            (0.1, "0.1"),
            (123_456.79, "123456.79"),
            (f32::from_bits(1), "1.4E-45"),
        ] {
            assert_eq!(float(value), text);
        }
    }
}
