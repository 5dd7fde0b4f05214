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

    /// Drops all of `other`, a set of as many rules.
    pub(super) fn drop_all(&mut self, other: &Self) {
        for (word, gone) in self.0.iter_mut().zip(&other.0) {
            *word &= !gone;
        }
    }

    /// Words, for [`Self::take_from`].
    pub(super) fn words(&self) -> usize {
        self.0.len()
    }

    /// Takes the lowest place out of a word; `None` when the word has none left.
    pub(super) fn take_from(&mut self, word: usize) -> Option<usize> {
        let bits = &mut self.0[word];
        if *bits == 0 {
            return None;
        }
        let bit = bits.trailing_zeros() as usize;
        *bits &= *bits - 1;
        Some(word * WORD + bit)
    }

    /// The places, the lowest first.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        let mut left = self.clone();
        let mut word = 0;
        std::iter::from_fn(move || {
            while word < left.words() {
                match left.take_from(word) {
                    Some(place) => return Some(place),
                    None => word += 1,
                }
            }
            None
        })
    }
}
