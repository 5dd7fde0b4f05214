//! A set of rules by place, as bits: put together from many lists without sorting.

/// Bits of a word.
const WORD: usize = u64::BITS as usize;

/// Places of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picks(Vec<u64>);

impl Picks {
    /// No rule of `rules`.
    pub(super) fn none_of(rules: usize) -> Self {
        Self(vec![0; rules.div_ceil(WORD)])
    }

    /// Adds the rule at `at`, which is below the number given at the start.
    pub(super) fn add(&mut self, at: usize) {
        self.0[at / WORD] |= 1 << (at % WORD);
    }

    /// Adds some rules.
    pub(super) fn add_each(&mut self, places: &[usize]) {
        for at in places {
            self.add(*at);
        }
    }

    /// Adds all of `other`, a set of as many rules.
    pub(super) fn add_all(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Becomes `other`.
    pub(super) fn copy_from(&mut self, other: &Self) {
        self.0.clone_from(&other.0);
    }

    /// Words, for [`Self::in_word`].
    pub(super) fn words(&self) -> usize {
        self.0.len()
    }

    /// The places in a word, the lowest first.
    pub(super) fn in_word(&self, word: usize) -> Places {
        Places { bits: self.0[word], from: word * WORD }
    }

    /// The places, the lowest first.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..self.words()).flat_map(|word| self.in_word(word))
    }
}

/// The places in one word.
pub(super) struct Places {
    bits: u64,
    from: usize,
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.bits == 0 {
            return None;
        }
        let bit = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(self.from + bit)
    }
}
