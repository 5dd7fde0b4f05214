//! `evasion` and `benign`: every way of dodging a monitor that we know, and everything harmless
//! that looks like one, done for real in front of a real monitor.
//!
//! A case is a row in `tests/evasion/cases.yaml` or `tests/benign/cases.yaml`, and a small script
//! that does the thing. It says what it did; what the monitor saw is held against that.

mod case;
mod event;
mod ground;
mod judge;
mod machine;
mod play;
mod report;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};

use self::case::Case;
use self::ground::Ground;
use self::judge::{State, Verdict};
use crate::cli::TrialArgs;
use crate::tree::Tree;
use crate::{demo, setup, suite};

/// The kernel that runs.
const KERNEL_RELEASE: &str = "/proc/sys/kernel/osrelease";
/// Failed cases that are played once more; more than these are no matter of a busy host.
const SECOND_TRIES_MAX: usize = 3;

/// Which cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Must be seen.
    Evasion,
    /// Must stay silent.
    Benign,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Evasion => "evasion",
            Self::Benign => "benign",
        })
    }
}

/// `cargo xtask evasion` and `cargo xtask benign`.
pub(crate) fn run(tree: &Tree, which: Suite, args: &TrialArgs) -> Result<ExitCode> {
    let cases = case::read(&tree.path(&format!("tests/{which}/cases.yaml")))?;
    let cases = case::choose(cases, &args.only)?;
    if args.list {
        for case in &cases {
            println!("{:<6} {}", case.id, case.does);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.machine.vm.is_empty() {
        return machine::run(tree, which, &cases, args);
    }
    let cases: Vec<_> =
        if args.machine.inside { cases.into_iter().map(Case::inside).collect() } else { cases };
    let release = fs::read_to_string(KERNEL_RELEASE).context(KERNEL_RELEASE)?;
    let kernel = case::kernel_of(&release);
    let cases: Vec<_> = cases.into_iter().map(|case| case.on(kernel)).collect();
    let reason = format!("{which} loads programs into the kernel, which needs root");
    suite::require_root(&reason, &which.to_string())?;
    let binary = match &args.monitor {
        Some(monitor) => monitor.canonicalize().with_context(|| monitor.display().to_string())?,
        None => demo::build(tree, None)?,
    };
    if !args.machine.inside {
        setup::for_demo(tree)?;
    }
    let began = Instant::now();
    let (mut verdicts, mut books) = perform(tree, which, &binary, &cases, args)?;
    if which == Suite::Evasion {
        books.extend(try_again(tree, &binary, &cases, args, &mut verdicts)?);
    }
    if let Some(path) = args.doc.as_ref() {
        let path = tree.root().join(path);
        write_table(&path, &which.to_string(), &verdicts)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(report::close(which, &verdicts, &books, seconds, args.json))
}

/// Plays cases before a monitor of their own.
fn perform(
    tree: &Tree,
    which: Suite,
    binary: &Path,
    cases: &[Case],
    args: &TrialArgs,
) -> Result<(Vec<Verdict>, Vec<String>)> {
    let temporary = tempfile::Builder::new()
        .prefix(&format!("gpuwarden-{which}-"))
        .tempdir()
        .context("create a temporary directory")?;
    let directory = temporary.path().to_path_buf();
    let slowness = if args.machine.inside { case::SLOWNESS } else { 1 };
    let mut ground = Ground::set(tree, which, binary.to_path_buf(), cases, &directory, slowness)?;
    let result = play_all(&mut ground, cases, args);
    drop(ground);
    if args.keep {
        eprintln!("kept: {}", temporary.keep().display());
    }
    result
}

/// Plays the few cases that failed once more, before a new monitor, and says so: a program that
/// lives for milliseconds on a busy host can be gone before it is looked at. A case that needs
/// this stays marked, and the closing line counts it.
fn try_again(
    tree: &Tree,
    binary: &Path,
    cases: &[Case],
    args: &TrialArgs,
    verdicts: &mut [Verdict],
) -> Result<Vec<String>> {
    let failed = verdicts.iter().filter(|verdict| verdict.state == State::Failed);
    let failed: Vec<String> = failed.map(|verdict| verdict.id.clone()).collect();
    if failed.is_empty() || failed.len() > SECOND_TRIES_MAX {
        return Ok(Vec::new());
    }
    eprintln!("second try, before a new monitor: {}", failed.join(", "));
    let cases = case::choose(cases.to_vec(), &failed)?;
    let (tries, books) = perform(tree, Suite::Evasion, binary, &cases, args)?;
    for mut again in tries {
        if again.state == State::Passed {
            "passed at the second try".clone_into(&mut again.why);
        }
        if let Some(first) = verdicts.iter_mut().find(|verdict| verdict.id == again.id) {
            *first = again;
        }
    }
    let late = verdicts.iter().filter(|it| it.state == State::Passed && !it.why.is_empty());
    eprintln!("{} of {} passed at the second try", late.count(), failed.len());
    Ok(books)
}

fn play_all(
    ground: &mut Ground<'_>,
    cases: &[Case],
    args: &TrialArgs,
) -> Result<(Vec<Verdict>, Vec<String>)> {
    let mut verdicts = Vec::new();
    for case in cases {
        let verdict = match &case.skip {
            Some(why) => Verdict::skipped(case, why),
            None => play::play(ground, case).with_context(|| format!("case {}", case.id))?,
        };
        if !args.json {
            report::print(&verdict);
        } else if args.machine.inside {
            // Whoever watches the serial port sees how far it has come.
            let Verdict { id, state, seconds, why, .. } = &verdict;
            eprintln!("{id} {state:?} {seconds:.1} s {why}");
        }
        if args.keep && verdict.state == State::Failed {
            eprintln!("         logs: {}", ground.directory.join("logs").display());
        }
        verdicts.push(verdict);
    }
    let books = balance(ground)?;
    ground.stop_monitor()?;
    Ok((verdicts, books))
}

/// What does not add up in the kernel's books of the last monitor.
fn balance(ground: &mut Ground<'_>) -> Result<Vec<String>> {
    const NAME: &str = "gpuwarden_kernel_records_total";
    let metrics = ground.metrics()?;
    let mut wrong = Vec::new();
    for kind in metrics.values_of(NAME, "kind") {
        let kind_label = format!("kind=\"{kind}\"");
        let sum = |outcome: &str| {
            metrics.sum(NAME, &[&kind_label, &format!("outcome=\"{outcome}\"")]).unwrap_or(0.0)
        };
        let outcomes = metrics.values_of(NAME, "outcome");
        let others: f64 = outcomes.iter().filter(|it| *it != "seen").map(|it| sum(it)).sum();
        // Between two reads of counters that others still add to, a few records pass.
        let slack = (sum("seen") * 0.001).max(64.0);
        if (sum("seen") - others).abs() > slack {
            wrong.push(format!("{kind}: {} seen, but {others} accounted for", sum("seen")));
        }
    }
    Ok(wrong)
}

/// Writes the table into the marked block of a document.
fn write_table(path: &Path, which: &str, verdicts: &[Verdict]) -> Result<()> {
    let (begin, end) = (format!("<!-- {which}:begin -->"), format!("<!-- {which}:end -->"));
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let missing = || format!("{} has no block {begin}", path.display());
    let (head, rest) = text.split_once(&begin).with_context(missing)?;
    let (_, tail) = rest.split_once(&end).with_context(missing)?;
    let table = report::table(verdicts);
    fs::write(path, format!("{head}{begin}\n{table}{end}{tail}"))
        .with_context(|| format!("write {}", path.display()))
}
