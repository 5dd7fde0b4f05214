//! `gpuwarden rules import`: rules of Falco and Sigma in our form.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::FOUND;
use crate::import::{Import, falco, sigma};

/// Most files of one import.
pub(super) const IMPORT_FILES_MAX: usize = 10_000;

/// What `import` takes.
#[derive(Clone, Debug, Args)]
pub(super) struct ImportArgs {
    /// Whose rules
    #[arg(value_enum)]
    from: Origin,
    /// Files of rules, or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write the rules to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Origin {
    Falco,
    Sigma,
}

/// Converts, and tells what did not convert. The exit code is 1 when nothing did.
pub(super) fn run(args: &ImportArgs, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let mut files = Vec::new();
    for path in &args.files {
        collect(path, &mut files)?;
    }
    let texts: Vec<String> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).with_context(|| file.display().to_string()))
        .collect::<Result<_, _>>()?;
    let import = match args.from {
        Origin::Falco => falco(&texts),
        Origin::Sigma => sigma(&texts),
    };
    let import = import.map_err(anyhow::Error::msg)?;
    let yaml = import.to_yaml();
    match &args.out {
        Some(path) => std::fs::write(path, yaml).with_context(|| path.display().to_string())?,
        None => write!(out, "{yaml}")?,
    }
    // The report must not end up among the rules.
    let to_stderr = args.out.is_none();
    let mut stderr = std::io::stderr();
    let report: &mut dyn Write = if to_stderr { &mut stderr } else { out };
    if args.json {
        report_json(&import, report)?;
    } else {
        report_text(&import, report)?;
    }
    Ok(if import.sheets.is_empty() { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

/// The files at or below a path, in order of name.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if files.len() > IMPORT_FILES_MAX {
        bail!("more than {IMPORT_FILES_MAX} files; name the folder that holds rules");
    }
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
    let mut entries: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    entries.sort_unstable();
    let is_yaml = |path: &Path| path.extension().is_some_and(|end| end == "yml" || end == "yaml");
    for entry in entries.iter().filter(|entry| entry.is_dir() || is_yaml(entry)) {
        collect(entry, files)?;
    }
    Ok(())
}

fn report_text(import: &Import, out: &mut dyn Write) -> anyhow::Result<()> {
    let (converted, refused) = (import.sheets.len(), import.refused.len());
    writeln!(out, "{converted} rules converted, {refused} not")?;
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for refusal in &import.refused {
        by_reason.entry(&refusal.why).or_default().push(&refusal.rule);
    }
    let mut reasons: Vec<(&str, Vec<&str>)> = by_reason.into_iter().collect();
    reasons.sort_by_key(|(why, rules)| (std::cmp::Reverse(rules.len()), *why));
    for (why, rules) in reasons {
        writeln!(out, "\n{why} ({}):", rules.len())?;
        for rule in rules {
            writeln!(out, "  {rule}")?;
        }
    }
    if !import.notes.is_empty() {
        writeln!(out, "\nWhat is different here:")?;
        for note in &import.notes {
            writeln!(out, "  {note}")?;
        }
    }
    Ok(())
}

fn report_json(import: &Import, out: &mut dyn Write) -> anyhow::Result<()> {
    let converted: Vec<&str> = import.sheets.iter().map(|sheet| sheet.id.as_str()).collect();
    let json = serde_json::json!({
        "converted": converted, "refused": import.refused, "notes": import.notes,
    });
    writeln!(out, "{json:#}")?;
    Ok(())
}
