//! An error with what caused it, in one line.

use std::error::Error;

/// The error's text, then each cause that the text before it does not tell already.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use thiserror::Error;

    use super::chain;

    #[derive(Debug, Error)]
    enum Broken {
        #[error("cannot open the door")]
        Silent(#[source] io::Error),
        #[error("cannot open the door: {0}; knock")]
        Told(#[source] io::Error),
    }

    #[test]
    fn each_cause_is_told_once() {
        let locked = || io::Error::other("it is locked");
        assert_eq!(chain(&Broken::Silent(locked())), "cannot open the door: it is locked");
        assert_eq!(chain(&Broken::Told(locked())), "cannot open the door: it is locked; knock");
    }
}
