//! The first process of a machine that `cargo xtask vm` boots. It mounts what a host has, loads the
//! sensors through the daemon's own loader, makes system calls, and looks for the facts in the
//! decoded stream. Called with `act NAME`, it is the process that makes the calls.
#![expect(clippy::print_stdout, reason = "its output is the serial line that the tool reads")]

mod act;
mod attack;
mod base;
mod full;
mod host;
mod low;
mod module;
mod suite;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("act") {
        let name = args.next().unwrap_or_default();
        return match act::play(&name, &args.collect::<Vec<_>>()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("act {name}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let played = host::mount().and_then(|()| match host::command_line("gpuwarden.cases") {
        Some(cases) => host::play_cases(&cases),
        None => suite::run(),
    });
    match played {
        Ok(true) => println!("init: success"),
        Ok(false) => println!("init: failure"),
        Err(error) => println!("init: failure: {error}"),
    }
    host::power_off()
}
