//! Text for people: sizes and command lines.

pub(super) use crate::model::visible;

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
    use super::{bytes, command, cut};

    #[test]
    fn sizes_have_one_digit_and_never_round_up() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.0 KiB");
        assert_eq!(bytes(15_247_133_900), "14.1 GiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
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
