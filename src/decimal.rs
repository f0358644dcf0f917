//! Numbers as callers and operators write them: decimal digits and nothing else.

use std::str::FromStr;

/// The number, where the text is digits and the type can hold it. `str::parse` alone takes a sign, too.
pub(crate) fn parse<N: FromStr>(text: &str) -> Option<N> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_decimal { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_all_digits_or_too_large_is_no_number() {
        assert_eq!(["0", "007", "255"].map(parse::<u8>), [Some(0), Some(7), Some(255)]);
        assert_eq!(["", "+7", "-7", "7.0", " 7", "7 ", "0x7", "\u{667}", "256"].map(parse::<u8>), [None; 9]);
    }
}
