//! What standard output is: how wide, and whether colours help.

use std::io::{IsTerminal as _, stdout};

use unicode_width::UnicodeWidthStr as _;

/// What is known of standard output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    /// How many columns it has; none where it is no terminal, and lines may be as long as they are.
    pub(super) columns: Option<usize>,
    colours: Colours,
}

/// Whether colours are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colours {
    Used,
    Unused,
}

/// A colour that says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    /// Nothing is the matter.
    Plain,
    /// It is less important than the rest.
    Faint,
    /// Someone should look.
    Warning,
    /// Something failed.
    Failure,
}

impl Terminal {
    /// One without colours.
    #[cfg(test)]
    pub(super) const fn plain(columns: Option<usize>) -> Self {
        Self { columns, colours: Colours::Unused }
    }

    /// Standard output as it is.
    pub(super) fn of_output() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if !stdout().is_terminal() {
            return Self { columns: None, colours: Colours::Unused };
        }
        let told = variable("COLUMNS").and_then(|columns| crate::decimal::parse(&columns));
        let size = || rustix::termios::tcgetwinsize(stdout()).ok().map(|size| usize::from(size.ws_col));
        let columns = told.or_else(size).filter(|&columns| columns > 0);
        // https://no-color.org
        let is_plain = variable("NO_COLOR").is_some() || variable("TERM").is_none_or(|term| term == "dumb");
        Self { columns, colours: if is_plain { Colours::Unused } else { Colours::Used } }
    }

    /// The text in that colour, where colours are used. The text is one that does not act on a terminal.
    pub(super) fn paint(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            _ if self.colours == Colours::Unused => return text.to_owned(),
            Colour::Plain => return text.to_owned(),
            Colour::Faint => "2",
            Colour::Warning => "33",
            Colour::Failure => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Columns that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The text in so many columns: cut, its end told by an ellipsis, or filled with spaces.
pub(super) fn fit(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return format!("{text}{}", " ".repeat(columns - text.width()));
    }
    let mut cut = String::new();
    let mut left = columns.saturating_sub(1);
    for character in text.chars() {
        let wide = unicode_width::UnicodeWidthChar::width(character).unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        cut.push(character);
    }
    if columns > 0 {
        cut.push('\u{2026}');
    }
    cut.push_str(&" ".repeat(left));
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_the_columns_that_it_is_given() {
        for (text, fitted) in [
            ("abc", "abc  "),
            ("abcde", "abcde"),
            ("abcdef", "abcd\u{2026}"),
            ("\u{5b57}\u{5b57}", "\u{5b57}\u{5b57} "),
            ("\u{5b57}\u{5b57}\u{5b57}", "\u{5b57}\u{5b57}\u{2026}"),
            ("a\u{5b57}\u{5b57}\u{5b57}", "a\u{5b57}\u{2026} "),
        ] {
            assert_eq!(fit(text, 5), fitted, "{text}");
            assert_eq!(width(fitted), 5);
        }
        assert_eq!(fit("abc", 0), "");
    }

    #[test]
    fn colours_are_used_where_they_are_wanted() {
        let on = Terminal { columns: None, colours: Colours::Used };
        assert_eq!(on.paint(Colour::Failure, "500"), "\u{1b}[31m500\u{1b}[0m");
        assert_eq!(Terminal { colours: Colours::Unused, ..on }.paint(Colour::Failure, "500"), "500");
    }
}
