//! Figures into the page that holds them.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::child;
use crate::tree::Tree;

/// The page.
const PAGE: &str = "docs/performance.md";
/// Between these lines stands what was measured last.
const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// Measures as the command line says, in a process of its own, and puts what it prints into the
/// page.
pub(super) fn write(tree: &Tree) -> Result<()> {
    let page = tree.path(PAGE);
    let before = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    // Before minutes are spent.
    replaced(&before, "")?;
    let own = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(own);
    command.args(std::env::args().skip(1).filter(|argument| argument != "--doc"));
    command.stdout(Stdio::piped());
    let output = command.spawn().context("start the benchmark")?.wait_with_output()?;
    let figures = String::from_utf8(output.stdout).context("what it printed is no text")?;
    print!("{figures}");
    ensure!(output.status.success(), "{} failed: {}", child::render(&command), output.status);
    // The last line says where the machine's form was written to.
    let figures = figures.split("\nwritten to ").next().unwrap_or_default().trim();
    fs::write(&page, replaced(&before, figures)?).with_context(|| page.display().to_string())?;
    println!("\n{PAGE} holds these figures now");
    Ok(())
}

/// The page with other figures.
fn replaced(page: &str, figures: &str) -> Result<String> {
    let lacks = || format!("{PAGE} lacks the line `{BEGIN}`, or `{END}` after it");
    let (head, rest) = page.split_once(BEGIN).with_context(lacks)?;
    let (_, tail) = rest.split_once(END).with_context(lacks)?;
    Ok(format!("{head}{BEGIN}\n```text\n{figures}\n```\n{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replaced(&page, "new").expect("both marks are there");
        assert_eq!(new, format!("a\n{BEGIN}\n```text\nnew\n```\n{END}\nb\n"));
        assert!(replaced("nothing", "new").is_err());
        assert!(replaced(&format!("{END}{BEGIN}"), "new").is_err(), "in the other order");
    }
}
