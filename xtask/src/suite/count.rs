//! Counting tests in the output of those who ran them.

/// Tests that passed and tests that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// Adds up every `N passed` and `N failed` that stand together on a line: libtest's
/// `test result: ok. 3 passed; 0 failed; …` and the plain `3 passed, 0 failed`.
pub(crate) fn in_output(output: &str) -> Count {
    let mut sum = Count::default();
    for line in output.lines() {
        if let (Some(passed), Some(failed)) = (before(line, " passed"), before(line, " failed")) {
            sum.passed += passed;
            sum.failed += failed;
        }
    }
    sum
}

/// The number that stands right before `word`.
fn before(line: &str, word: &str) -> Option<u64> {
    let (head, _) = line.split_once(word)?;
    let digits = head.rsplit(|letter: char| !letter.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_added_up() {
        let output = "running 2 tests\n\
            test result: ok. 12 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n\
            noise: the job failed\n\
            3 passed, 0 failed\n";
        assert_eq!(in_output(output), Count { passed: 15, failed: 1 });
    }

    #[test]
    fn output_without_counts_counts_nothing() {
        assert_eq!(in_output("all passed\nnone failed\n"), Count::default());
    }
}
