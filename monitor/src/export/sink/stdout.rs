//! Standard output.

use std::io::{self, IsTerminal as _, Write as _};

use crate::alert::Alert;
use crate::export::config::Format;
use crate::export::encode::{Colour, encode};

pub(super) struct StdoutSink {
    format: Format,
    colour: Colour,
}

impl StdoutSink {
    pub(super) fn new(format: Format) -> Self {
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = if io::stdout().is_terminal() && !is_plain { Colour::On } else { Colour::Off };
        Self { format, colour }
    }
}

impl super::Write for StdoutSink {
    fn write(&mut self, alert: &Alert) -> io::Result<()> {
        let text = encode(alert, self.format, self.colour);
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}
