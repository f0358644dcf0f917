//! Texts that others have written, made harmless for terminals and logs.

use std::fmt::Write as _;

/// The text with everything escaped that is not visible or acts on a terminal: control characters of both sets, line ends, what turns
/// the direction of writing, what has no width.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' | ' ' => safe.push(character),
            // Escapes also what joins the character before it, so that a column has the width that was counted.
            _ => write!(safe, "{}", character.escape_debug()).expect("writing to a String does not fail"),
        }
    }
    safe
}

/// The same, cut to so many characters.
pub fn one_line(text: &str, characters_max: usize) -> String {
    let safe = printable(text);
    match safe.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{}\u{2026}", &safe[..end]),
        None => safe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_escaped_and_what_is_read_is_not() {
        assert_eq!(printable("\u{1b}[2J\u{9b}31m"), "\\u{1b}[2J\\u{9b}31m");
        assert_eq!(printable("a\r\n\tb\0"), "a\\r\\n\\tb\\0");
        assert_eq!(
            printable("\u{202e}evil\u{2066}\u{200b}\u{feff}\u{7f}"),
            "\\u{202e}evil\\u{2066}\\u{200b}\\u{feff}\\u{7f}"
        );
        assert_eq!(printable("z\u{301}\u{2028}"), "z\\u{301}\\u{2028}");
        assert_eq!(printable("J\u{f6}rg's \"\u{5b57}\" \\"), "J\u{f6}rg's \"\u{5b57}\" \\");
        assert_eq!(one_line("abc", 2), "ab\u{2026}");
        assert_eq!(one_line("ab", 2), "ab");
    }
}
