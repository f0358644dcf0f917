//! How long a token lives, as it is written on the command line.

/// The longest life of a token issued here, in seconds: 7 days.
const MAX_TTL_S: u32 = 7 * 86_400;

/// Seconds out of `30s`, `15m`, `1h` or `1d`.
pub(super) fn parse_ttl(text: &str) -> Result<u32, String> {
    let refused = || "must be a whole number and s, m, h or d, as 15m".to_owned();
    let (unit_at, unit) = text.char_indices().last().ok_or_else(refused)?;
    let seconds_a_unit: u32 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(refused()),
    };
    let digits = &text[..unit_at];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    // More digits than a number holds are surely more than 7 days.
    let ttl_s = digits.parse().map_or(u32::MAX, |count: u32| count.saturating_mul(seconds_a_unit));
    match ttl_s {
        0 => Err("must be at least 1s".to_owned()),
        1..=MAX_TTL_S => Ok(ttl_s),
        _ => Err("must be at most 7d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_a_number_with_its_unit() {
        let read = ["30s", "15m", "1h", "1d", "7d", "604800s"].map(|text| parse_ttl(text).unwrap());
        assert_eq!(read, [30, 900, 3_600, 86_400, 604_800, 604_800]);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "m", "15", "15 m", "-1m", "+1m", "1.5h", "1h30m", "0s", "8d", "604801s", "99999999999d", "1µ", "１m"]
        {
            assert!(parse_ttl(text).is_err(), "{text:?}");
        }
    }
}
