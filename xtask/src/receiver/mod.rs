//! `observe` and `deliver`: a real daemon, an incident that is played for real, and receivers that
//! others have written: Prometheus and promtool, rsyslog over TLS, Python's HTTP server.
//!
//! | file | what it is |
//! |---|---|
//! | `observe` | what Prometheus, the rules and the dashboard get to see |
//! | `deliver` | what arrives by syslog and webhook, through an outage and a kill |
//! | `prometheus`, `rsyslog`, `webhook` | the receivers |
//! | `tally` | checks by name |

mod deliver;
mod observe;
mod prometheus;
mod rsyslog;
mod tally;
mod webhook;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use self::tally::Tally;
use crate::cli::ReceiverArgs;
use crate::demo::{self, Scene};
use crate::tree::Tree;
use crate::{setup, suite};

/// `cargo xtask observe`.
pub(crate) fn observe(tree: &Tree, args: &ReceiverArgs) -> Result<ExitCode> {
    run(tree, args, "observe", observe::check)
}

/// `cargo xtask deliver`.
pub(crate) fn deliver(tree: &Tree, args: &ReceiverArgs) -> Result<ExitCode> {
    run(tree, args, "deliver", deliver::check)
}

fn run(
    tree: &Tree,
    args: &ReceiverArgs,
    name: &str,
    check: fn(&mut Scene<'_>, &mut Tally) -> Result<()>,
) -> Result<ExitCode> {
    suite::require_root("the daemon loads programs into the kernel, which needs root", name)?;
    let binary: PathBuf = demo::build(tree, args.monitor.as_deref())?;
    setup::for_tests(tree)?;
    let temporary = tempfile::Builder::new()
        .prefix(&format!("gpuwarden-{name}-"))
        .tempdir()
        .context("create a temporary directory")?;
    let directory = temporary.path().to_path_buf();
    let mut tally = Tally::default();
    let result =
        Scene::set(tree, binary, &directory).and_then(|mut scene| check(&mut scene, &mut tally));
    if args.keep {
        eprintln!("kept: {}", temporary.keep().display());
    }
    result.map(|()| tally.close())
}
