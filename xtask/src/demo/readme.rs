//! README.md shows the first alert exactly as it looks: this writes it there.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use super::incident::INCIDENTS;
use super::{Scene, play};
use crate::stage::Monitor;

/// Around the block.
const BEGIN: &str = "<!-- demo:begin -->";
const END: &str = "<!-- demo:end -->";
/// Time without a line after which the alert is whole.
const QUIET: Duration = Duration::from_secs(3);

/// Plays the first incident against a monitor that prints for people.
pub(super) fn refresh(scene: &mut Scene<'_>, monitor: &mut Monitor) -> Result<()> {
    let played = play::play(scene, &INCIDENTS[0], monitor)?;
    let mut shown = played.unreadable;
    scene.interrupt.wait(QUIET, || {
        shown.extend(monitor.lines()?.into_iter().map(|line| line.text));
        Ok(false)
    })?;
    if shown.is_empty() {
        bail!("the monitor printed nothing during {}", INCIDENTS[0].name);
    }
    let path = scene.tree.path("README.md");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let own = std::env::current_exe().context("find this program")?;
    let shown = for_page(&shown, &own.display().to_string(), scene.tree.root());
    let text = replace(&text, &shown)?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// The lines for a reader: what is above the demo itself, and where the tree lies, is this host's
/// affair, and may be nobody else's.
fn for_page(lines: &[String], own: &str, root: &Path) -> String {
    let root = format!("{}/", root.display());
    let mut is_above = false;
    let mut kept = Vec::new();
    for line in lines.iter().flat_map(|text| text.lines()) {
        let is_parent = line.trim_start().starts_with("parent ");
        if is_above && is_parent {
            continue;
        }
        is_above = is_parent && line.contains(own);
        let line = line.replace(own, "target/debug/xtask").replace(&root, "");
        kept.push(line.replace("xtask demo --readme", "xtask demo"));
    }
    kept.join("\n")
}

fn replace(text: &str, shown: &str) -> Result<String> {
    let missing = || anyhow!("README.md has no block between `{BEGIN}` and `{END}`");
    let (head, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, tail) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{head}{BEGIN}\n```text\n{}\n```\n{END}{tail}", shown.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_above_the_demo_and_where_the_tree_lies_is_left_out() {
        let lines = [
            "  process   python /tree/job.py (pid 3)\n    parent  /out/xtask demo --readme (pid 2)",
            "    parent  shell --key secret (pid 1)",
            "  flow      tcp\n    parent  unrelated (pid 4)",
        ];
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let shown = for_page(&lines, "/out/xtask", Path::new("/tree"));
        assert_eq!(
            shown,
            "  process   python job.py (pid 3)\n    parent  target/debug/xtask demo (pid 2)\n  \
             flow      tcp\n    parent  unrelated (pid 4)"
        );
    }

    #[test]
    fn block_is_replaced_and_the_rest_stays() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = replace(&text, "new\n").expect("there is a block");
        assert_eq!(once, format!("a\n{BEGIN}\n```text\nnew\n```\n{END}\nb\n"));
        assert_eq!(replace(&once, "new").expect("there is a block"), once);
        assert!(replace("no block", "new").is_err());
    }
}
