//! `gpuwarden replay`: rules from files over a recording.

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::{FOUND, fail};
use crate::alert::AlertConfig;
use crate::export::config::Format;
use crate::export::encode::{Colour, encode};
use crate::pipeline::Replay;
use crate::recording::Reader;
use crate::rule::{RuleSet, shipped};

/// What `replay` takes.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// A file that `record` wrote.
    file: PathBuf,
    /// Rule file or directory, beside the shipped rules; may be given more than once.
    #[arg(long, value_name = "PATH")]
    rules: Vec<PathBuf>,
    /// Leave the shipped rules out.
    #[arg(long)]
    no_shipped_rules: bool,
    /// How alerts are printed.
    #[arg(long, value_enum, default_value = "human")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Human,
    Json,
    Ocsf,
}

/// Replays a recording. The exit code is 1 when the rules are wrong.
pub(super) fn run(args: &ReplayArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let sources = if args.no_shipped_rules { Vec::new() } else { shipped() };
    let rules = match RuleSet::read_with(sources, &args.rules) {
        Ok(rules) => rules,
        Err(mistakes) => {
            fail(&format!("the rules have mistakes\n{mistakes}"));
            return Ok(ExitCode::from(FOUND));
        }
    };
    let name = args.file.display();
    let file = std::fs::File::open(&args.file).with_context(|| name.to_string())?;
    let bar = progress(file.metadata().map_or(0, |meta| meta.len()));
    let mut reader = Reader::new(bar.wrap_read(file)).with_context(|| name.to_string())?;
    let format = match args.output {
        Output::Human => Format::Human,
        Output::Json => Format::Json,
        Output::Ocsf => Format::Ocsf,
    };
    let colour = if std::io::stdout().is_terminal() { Colour::On } else { Colour::Off };
    let started = Instant::now();
    let mut replay = Replay::of(&rules, AlertConfig::default(), &reader.header);
    let mut alerts = 0_u64;
    let mut written = Ok(());
    while let Some(row) = reader.next_row().with_context(|| name.to_string())? {
        replay.take(&row, &mut |alert, _| {
            alerts += 1;
            if written.is_ok() {
                written = bar.suspend(|| write!(out, "{}", encode(&alert, format, colour)));
            }
        });
    }
    let events = replay.events();
    for alert in replay.finish() {
        write!(out, "{}", encode(&alert, format, colour))?;
    }
    written?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let host = &reader.header.host.name;
    eprint_line(&format!("{events} events of {host} in {seconds:.1} s: {alerts} alerts"));
    match reader.footer() {
        None => eprint_line("the recording was cut off: it has no last line"),
        Some(footer) if footer.lost > 0 => {
            eprint_line(&format!("{} events were lost while it was made", footer.lost));
        }
        Some(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn eprint_line(line: &str) {
    // Nothing can be done when even that is closed.
    let _closed = writeln!(std::io::stderr(), "{line}");
}
