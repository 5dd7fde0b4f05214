//! A bounded table in order of use.
//!
//! Each table of this stage needs three things at once that no map at hand gives together: a
//! hard bound with the least recently used entry making room, handles that find an entry again
//! without hashing, and handles that notice when their entry has gone.

use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

use hashbrown::{DefaultHashBuilder, Equivalent, HashTable};

const NONE: u32 = u32::MAX;

/// An entry of a [`Table`], found without hashing. It dies with the entry.
pub(crate) struct Handle<V> {
    at: u32,
    generation: u32,
    of: PhantomData<fn() -> V>,
}

impl<V> Clone for Handle<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Handle<V> {}

impl<V> PartialEq for Handle<V> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.generation) == (other.at, other.generation)
    }
}

impl<V> Eq for Handle<V> {}

impl<V> Hash for Handle<V> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (u64::from(self.at) << 32 | u64::from(self.generation)).hash(state);
    }
}

impl<V> std::fmt::Debug for Handle<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}.{}", self.at, self.generation)
    }
}

struct Slot<K, V> {
    /// Entry, or `None` in a free slot.
    entry: Option<(K, V)>,
    generation: u32,
    /// Towards the least recently used.
    older: u32,
    /// Towards the most recently used; the next free slot in a free one.
    newer: u32,
}

/// A bounded table in order of use.
pub(crate) struct Table<K, V> {
    index: HashTable<u32>,
    slots: Vec<Slot<K, V>>,
    hasher: DefaultHashBuilder,
    oldest: u32,
    newest: u32,
    free: u32,
    entries_max: usize,
    evicted: u64,
}

impl<K: Hash + Eq, V> Table<K, V> {
    /// An empty table. Memory is taken as it fills.
    pub(crate) fn new(entries_max: usize) -> Self {
        assert!(entries_max > 0 && entries_max < NONE as usize, "a table holds 1 to 2^32-2");
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            hasher: DefaultHashBuilder::default(),
            oldest: NONE,
            newest: NONE,
            free: NONE,
            entries_max,
            evicted: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.entries_max
    }

    /// Entries that made room for others.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn find<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<Handle<V>> {
        let slots = &self.slots;
        let hash = self.hasher.hash_one(key);
        let same = |&at: &u32| key_at(slots, at).is_some_and(|other| key.equivalent(other));
        let at = *self.index.find(hash, same)?;
        Some(Handle { at, generation: self.slots[at as usize].generation, of: PhantomData })
    }

    fn slot(&self, handle: Handle<V>) -> Option<&Slot<K, V>> {
        self.slots.get(handle.at as usize).filter(|slot| slot.generation == handle.generation)
    }

    pub(crate) fn get(&self, handle: Handle<V>) -> Option<&V> {
        Some(&self.slot(handle)?.entry.as_ref()?.1)
    }

    pub(crate) fn get_mut(&mut self, handle: Handle<V>) -> Option<&mut V> {
        let slot = self.slots.get_mut(handle.at as usize)?;
        if slot.generation != handle.generation {
            return None;
        }
        Some(&mut slot.entry.as_mut()?.1)
    }

    pub(crate) fn key(&self, handle: Handle<V>) -> Option<&K> {
        Some(&self.slot(handle)?.entry.as_ref()?.0)
    }

    /// Makes an entry the most recently used.
    pub(crate) fn touch(&mut self, handle: Handle<V>) {
        if handle.at != self.newest && self.get(handle).is_some() {
            self.unlink(handle.at);
            self.link_newest(handle.at);
        }
    }

    /// Adds an entry whose key is not in the table; a full table gives up its oldest, which is
    /// counted and returned.
    pub(crate) fn insert(&mut self, key: K, value: V) -> (Handle<V>, Option<(K, V)>) {
        debug_assert!(self.find(&key).is_none(), "the key is in the table");
        let victim = if self.is_full() { self.evict_oldest() } else { None };
        let entry = Some((key, value));
        let at = if self.free == NONE {
            let at = u32::try_from(self.slots.len()).expect("fewer slots than entries_max");
            self.slots.push(Slot { entry, generation: 0, older: NONE, newer: NONE });
            at
        } else {
            let at = self.free;
            let slot = &mut self.slots[at as usize];
            self.free = slot.newer;
            slot.entry = entry;
            at
        };
        self.index_at(at);
        self.link_newest(at);
        let generation = self.slots[at as usize].generation;
        (Handle { at, generation, of: PhantomData }, victim)
    }

    /// Takes the oldest entry out to make room, and counts it.
    pub(crate) fn evict_oldest(&mut self) -> Option<(K, V)> {
        let handle = self.oldest_first().next()?;
        self.evict(handle)
    }

    /// Takes an entry out to make room, and counts it.
    pub(crate) fn evict(&mut self, handle: Handle<V>) -> Option<(K, V)> {
        let entry = self.remove(handle);
        self.evicted += u64::from(entry.is_some());
        entry
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, handle: Handle<V>) -> Option<(K, V)> {
        self.get(handle)?;
        self.unlink(handle.at);
        self.unindex_at(handle.at);
        let slot = &mut self.slots[handle.at as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.newer = self.free;
        self.free = handle.at;
        slot.entry.take()
    }

    /// Gives an entry another key, which must not be in the table. Its handle stays good.
    pub(crate) fn rekey(&mut self, handle: Handle<V>, key: K) {
        debug_assert!(self.find(&key).is_none(), "the key is in the table");
        if self.get(handle).is_none() {
            return;
        }
        self.unindex_at(handle.at);
        if let Some(entry) = &mut self.slots[handle.at as usize].entry {
            entry.0 = key;
        }
        self.index_at(handle.at);
    }

    /// Handles, least recently used first.
    pub(crate) fn oldest_first(&self) -> impl Iterator<Item = Handle<V>> + '_ {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            let handle = Handle { at, generation: slot.generation, of: PhantomData };
            at = slot.newer;
            Some(handle)
        })
    }

    fn index_at(&mut self, at: u32) {
        let Some(key) = key_at(&self.slots, at) else { return };
        let hash = self.hasher.hash_one(key);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index
            .insert_unique(hash, at, |&at| key_at(slots, at).map_or(0, |key| hasher.hash_one(key)));
    }

    fn unindex_at(&mut self, at: u32) {
        let Some(key) = key_at(&self.slots, at) else { return };
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
    }

    fn unlink(&mut self, at: u32) {
        let Slot { older, newer, .. } = self.slots[at as usize];
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let newest = self.newest;
        let slot = &mut self.slots[at as usize];
        slot.older = newest;
        slot.newer = NONE;
        match self.slots.get_mut(newest as usize) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }
}

fn key_at<K, V>(slots: &[Slot<K, V>], at: u32) -> Option<&K> {
    Some(&slots.get(at as usize)?.entry.as_ref()?.0)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_table_gives_up_its_least_recently_used_and_counts_it() {
        let mut table = Table::new(2);
        let (one, _) = table.insert(1, "one");
        let (two, _) = table.insert(2, "two");
        table.touch(one);
        let (_, victim) = table.insert(3, "three");
        assert_eq!(victim, Some((2, "two")));
        assert_eq!((table.len(), table.evicted()), (2, 1));
        assert_eq!(table.get(two), None);
        assert_eq!(table.get(one), Some(&"one"));
    }

    #[test]
    fn a_handle_dies_with_its_entry_even_when_the_slot_is_used_again() {
        let mut table = Table::new(1);
        let (old, _) = table.insert(1, "one");
        table.remove(old);
        let (new, _) = table.insert(2, "two");
        assert_eq!((table.get(old), table.get(new)), (None, Some(&"two")));
        assert_eq!(table.remove(old), None);
    }

    #[test]
    fn an_entry_under_a_new_key_keeps_its_handle() {
        let mut table = Table::new(4);
        let (handle, _) = table.insert(1, "one");
        table.rekey(handle, 9);
        assert_eq!((table.find(&1), table.find(&9)), (None, Some(handle)));
    }

    proptest! {
        /// The table does what a list in order of use would do.
        #[test]
        fn table_agrees_with_a_plain_list(
            steps in prop::collection::vec((0..4u8, 0..12u16), 1..200),
        ) {
            let mut table = Table::new(5);
            let mut list: VecDeque<u16> = VecDeque::new();
            for (step, key) in steps {
                let known = list.iter().position(|other| *other == key);
                match (step, table.find(&key)) {
                    (0, Some(handle)) => {
                        prop_assert_eq!(table.remove(handle), Some((key, key)));
                        list.retain(|other| *other != key);
                    }
                    (1 | 2, Some(handle)) => {
                        table.touch(handle);
                        list.retain(|other| *other != key);
                        list.push_back(key);
                    }
                    (3, None) => {
                        let (_, victim) = table.insert(key, key);
                        let oldest = (list.len() == 5).then(|| list.pop_front().unwrap());
                        prop_assert_eq!(victim.map(|(key, _)| key), oldest);
                        list.push_back(key);
                    }
                    (_, found) => prop_assert_eq!(found.is_some(), known.is_some()),
                }
                let order: Vec<u16> =
                    table.oldest_first().map(|handle| *table.key(handle).unwrap()).collect();
                prop_assert_eq!(order, list.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(table.len(), list.len());
            }
        }
    }
}
