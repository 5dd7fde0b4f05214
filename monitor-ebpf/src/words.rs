//! Values that are cleared and copied by their words.
//!
//! Of a plain fill or copy of more than a few bytes the compiler makes a call of a loop over bytes.
//! That costs a nanosecond a byte, the verifier follows it byte by byte, and it leaves an address
//! of the stack in the register of results, which the verifier may refuse ("cannot return stack
//! pointer to the caller").

/// Sets every word of `value` to zero.
#[inline(always)]
pub(crate) fn clear<T: Copy>(value: &mut T) {
    const { assert!(size_of::<T>() % 8 == 0 && align_of::<T>() == 8) };
    let words = core::ptr::from_mut(value).cast::<u64>();
    for at in 0..size_of::<T>() / 8 {
        // SAFETY: the value is that many aligned words long, and the caller's type is of integers,
        // for which zero is a value; volatile so that it stays a store of a word.
        unsafe { core::ptr::write_volatile(words.add(at), 0) };
    }
}

/// Copies `from` to `to`.
#[inline(always)]
pub(crate) fn copy<T: Copy>(from: &T, to: &mut T) {
    const { assert!(size_of::<T>() % 8 == 0 && align_of::<T>() == 8) };
    let from = core::ptr::from_ref(from).cast::<u64>();
    let to = core::ptr::from_mut(to).cast::<u64>();
    for at in 0..size_of::<T>() / 8 {
        // SAFETY: both values are that many aligned words long; volatile so that each stays a load
        // and a store of a word.
        unsafe { core::ptr::write_volatile(to.add(at), core::ptr::read_volatile(from.add(at))) };
    }
}
