//! The table of a suite: for people, for programs, for docs/evasion.md.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde_json::json;

use super::Suite;
use super::judge::{State, Verdict};

/// Prints one case as soon as it has ended.
pub(super) fn print(verdict: &Verdict) {
    let word = match verdict.state {
        State::Passed => "passed",
        State::Failed => "FAILED",
        State::Skipped => "skipped",
    };
    let attributed = if verdict.state == State::Skipped {
        "-"
    } else if verdict.misattributed.is_empty() {
        "yes"
    } else {
        "NO"
    };
    println!(
        "{word:<8} {:<5} {:<62} seen {}/{}  attributed {attributed:<3} lost {}  {:.1} s",
        verdict.id,
        shorten(&verdict.does),
        verdict.seen.len(),
        verdict.expected.len(),
        verdict.lost,
        verdict.seconds
    );
    if !verdict.why.is_empty() {
        println!("         {}", verdict.why);
    }
    if verdict.state == State::Failed && !verdict.also.is_empty() {
        println!("         also: {}", verdict.also.join(", "));
    }
}

fn shorten(text: &str) -> String {
    const COLUMNS: usize = 62;
    if text.chars().count() <= COLUMNS {
        return text.to_owned();
    }
    text.chars().take(COLUMNS - 1).chain(['…']).collect()
}

/// The closing line, or everything as one JSON object.
pub(super) fn close(
    suite: Suite,
    verdicts: &[Verdict],
    books: &[String],
    seconds: f64,
    json: bool,
) -> ExitCode {
    let count = |state| verdicts.iter().filter(|verdict| verdict.state == state).count();
    let (passed, skipped) = (count(State::Passed), count(State::Skipped));
    let failed = count(State::Failed) + books.len();
    if json {
        let answer = json!({
            "suite": suite.to_string(),
            "cases": verdicts,
            "books": books,
            "seconds": seconds,
            "passed": passed,
            "failed": failed,
            "skipped": skipped,
        });
        println!("{answer}");
    } else {
        for line in books {
            println!("FAILED   {line}");
        }
        println!("\n{suite}: {seconds:.0} s\n{passed} passed, {failed} failed, {skipped} skipped");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The table for the documents.
pub(super) fn table(verdicts: &[Verdict]) -> String {
    let mut out = String::from(
        "| case | what it does | expected | result | attributed | lost | seconds |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for verdict in verdicts {
        let result = match verdict.state {
            State::Passed => "seen".to_owned(),
            State::Failed => format!("**missed**: {}", verdict.why),
            State::Skipped => format!("not counted: {}", verdict.why),
        };
        let scaled = verdict.scaled.as_ref().map_or(String::new(), |text| format!(" ({text})"));
        let attributed = match verdict.state {
            State::Passed => "yes",
            State::Failed | State::Skipped => "-",
        };
        let expected: Vec<_> = verdict.expected.iter().map(|it| format!("`{it}`")).collect();
        let cells = [
            verdict.id.clone(),
            format!("{}{scaled}", verdict.does),
            expected.join(", "),
            result,
            attributed.to_owned(),
            verdict.lost.to_string(),
            format!("{:.1}", verdict.seconds),
        ];
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}
