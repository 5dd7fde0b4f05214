//! Cases that the full tier is for, in an emulated machine: this host's kernel may refuse hooks.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::case::Case;
use super::judge::Verdict;
use super::{Suite, report, write_table};
use crate::cli::TrialArgs;
use crate::tree::Tree;
use crate::{child, setup, vm};

/// What the suite inside says, in one line.
#[derive(Debug, Deserialize)]
struct Outcome {
    cases: Vec<Verdict>,
    books: Vec<String>,
}

/// Plays cases in a machine for each series that was asked for.
pub(super) fn run(tree: &Tree, which: Suite, cases: &[Case], args: &TrialArgs) -> Result<ExitCode> {
    if which != Suite::Evasion {
        bail!("{which} is not played in a machine: it is about what harmless programs do");
    }
    let (left_out, played): (Vec<&Case>, Vec<&Case>) =
        cases.iter().partition(|case| case.not_in_machine.is_some() && args.only.is_empty());
    let ids: Vec<String> = played.iter().map(|case| case.id.clone()).collect();
    let skipped: Vec<Verdict> = left_out
        .iter()
        .map(|case| Verdict::skipped(case, case.not_in_machine.as_deref().unwrap_or_default()))
        .collect();
    let monitor = build(tree, args)?;
    let began = Instant::now();
    let jobs = vm::jobs(args.machine.jobs);
    let mut kernels: Vec<(String, Vec<Verdict>)> = Vec::new();
    let mut books = Vec::new();
    for machine in vm::play(tree, &args.machine.vm, &monitor, &ids, jobs)? {
        let kernel = machine.kernel;
        let text = machine.text.with_context(|| format!("on {kernel}"))?;
        let Some(Outcome { cases, books: own }) = outcome(&text) else {
            bail!("{kernel} did not say how the cases ended:\n{}", tail(&text));
        };
        books.extend(own.into_iter().map(|line| format!("{kernel}: {line}")));
        match kernels.iter_mut().find(|(known, _)| *known == kernel) {
            Some((_, verdicts)) => verdicts.extend(cases),
            None => kernels.push((kernel, cases)),
        }
    }
    let mut verdicts = Vec::new();
    for (at, (kernel, mut cases)) in kernels.into_iter().enumerate() {
        if cases.len() != ids.len() {
            bail!("{kernel} tells of {} cases of {}", cases.len(), ids.len());
        }
        cases.sort_by_key(|case| ids.iter().position(|id| *id == case.id));
        cases.extend(skipped.iter().cloned());
        if !args.json {
            println!("on {kernel}:");
            cases.iter().for_each(report::print);
        }
        if let Some(path) = args.doc.as_ref().filter(|_| at == 0) {
            write_table(&tree.root().join(path), "evasion-full", &cases)?;
        }
        verdicts.extend(cases);
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(report::close(which, &verdicts, &books, seconds, args.json))
}

/// The monitor and the fake driver library beside it.
fn build(tree: &Tree, args: &TrialArgs) -> Result<PathBuf> {
    if let Some(monitor) = &args.monitor {
        return monitor.canonicalize().with_context(|| monitor.display().to_string());
    }
    let toolchain = setup::for_build(tree)?;
    let mut cargo = setup::cargo(tree, Some(&toolchain));
    cargo.args(["build", "--package", "monitor", "--package", "fake-nvml"]);
    if !args.machine.debug {
        cargo.arg("--release");
    }
    child::must_log("build the monitor", &mut cargo, &tree.logs()?.join("build.log"))?;
    Ok(if args.machine.debug { tree.debug("gpuwarden") } else { tree.daemon() })
}

fn outcome(text: &str) -> Option<Outcome> {
    text.lines().find_map(|line| serde_json::from_str(line.trim()).ok())
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(child::TAIL_LINES_MAX)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_is_the_line_that_is_one() {
        assert!(outcome("[ 1.0] noise\n{\"cases\": 1}\ninit: failure\n").is_none());
        let text = "noise\r\n{\"books\":[],\"cases\":[],\"passed\":0}\r\ninit: success\r\n";
        assert!(outcome(text).is_some_and(|outcome| outcome.cases.is_empty()));
    }
}
