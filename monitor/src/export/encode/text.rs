//! Text for people: sizes, and what must not reach a terminal or a log line as it is.

use std::borrow::Cow;

/// Bytes with a binary unit and one digit: `14.2 GiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut rest = count;
    while rest >= 1024 * 1024 {
        rest /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", rest / 1024, rest % 1024 * 10 / 1024, UNITS[unit])
}

/// The text with control characters written as escapes: a process chooses its own arguments, and
/// must not choose what a terminal does or where a log line ends.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .map(|c| if is_hidden(c) { c.escape_default().to_string() } else { c.to_string() })
            .collect(),
    )
}

/// Control characters, and those that turn the direction of writing or show nothing.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}')
}

/// At most `bytes_max` bytes of the text, cut between characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A command line that can be read: arguments with spaces in quotes.
pub(super) fn command(args: &[String]) -> String {
    let mut line = String::new();
    for arg in args {
        if !line.is_empty() {
            line.push(' ');
        }
        let shown = visible(arg);
        if arg.is_empty() || arg.contains(char::is_whitespace) {
            line.push('\'');
            line.push_str(&shown);
            line.push('\'');
        } else {
            line.push_str(&shown);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{bytes, command, cut, visible};

    #[test]
    fn sizes_have_one_digit_and_never_round_up() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(15_247_133_900), "14.1 GiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn no_control_character_is_left() {
        let shown = visible("a\x1b[2Jb\nc\u{202e}d");
        assert_eq!(shown, "a\\u{1b}[2Jb\\nc\\u{202e}d");
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
    }

    #[test]
    fn arguments_with_spaces_are_quoted() {
        let args = ["sh", "-c", "a b", ""].map(str::to_owned);
        assert_eq!(command(&args), "sh -c 'a b' ''");
    }
}
