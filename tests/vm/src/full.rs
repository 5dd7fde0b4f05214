//! The full tier: what only LSM hooks, or entries and returns of kernel functions, can see.

use crate::suite::Test;

/// The tests.
pub(crate) const TESTS: &[Test] = &[];
