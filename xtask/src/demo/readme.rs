//! README.md shows the first alert exactly as it looks: this writes it there.

use std::fs;
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
    let text = replace(&text, &shown.join("\n"))?;
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))
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
    fn block_is_replaced_and_the_rest_stays() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let once = replace(&text, "new\n").expect("there is a block");
        assert_eq!(once, format!("a\n{BEGIN}\n```text\nnew\n```\n{END}\nb\n"));
        assert_eq!(replace(&once, "new").expect("there is a block"), once);
        assert!(replace("no block", "new").is_err());
    }
}
