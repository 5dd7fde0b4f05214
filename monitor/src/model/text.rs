//! What must not reach a terminal or a log line as it is.

use std::borrow::Cow;

/// The text with control characters written as escapes: a process chooses its own arguments, and
/// must not choose what a terminal does or where a log line ends.
pub fn visible(text: &str) -> Cow<'_, str> {
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
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn no_control_character_is_left() {
        let shown = visible("a\x1b[2Jb\nc\u{202e}d");
        assert_eq!(shown, "a\\u{1b}[2Jb\\nc\\u{202e}d");
    }
}
