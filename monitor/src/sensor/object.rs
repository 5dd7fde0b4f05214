//! The object with the kernel programs, as it is handed to the kernel.
//!
//! `bpf_rdonly_cast` is a function of the kernel and not a helper: it is called by its id in the
//! running kernel's type information, which no compiler knows. The kernel side calls a helper with
//! a number that no helper has instead ([`CAST_CALL`]), and the call is rewritten here.

use monitor_common::CAST_CALL;
use zerocopy::IntoBytes as _;

/// `BPF_JMP | BPF_CALL` (include/uapi/linux/bpf.h).
const CALL: u8 = 0x85;
/// `BPF_PSEUDO_KFUNC_CALL` in the place of the source register (include/uapi/linux/bpf.h, 5.13).
const KERNEL_FUNCTION: u8 = 2 << 4;

/// A copy of the object in which each call of the cast goes to the function `id`.
///
/// In words, for a copy must be aligned as the object is.
pub(super) fn with_cast(object: &[u8], id: u32) -> Vec<u64> {
    let mut words = vec![0; object.len().div_ceil(8)];
    words.as_mut_bytes()[..object.len()].copy_from_slice(object);
    let (from, to) = (instruction(0, CAST_CALL), instruction(KERNEL_FUNCTION, id));
    for word in words.iter_mut().filter(|word| **word == from) {
        *word = to;
    }
    words
}

fn instruction(registers: u8, immediate: u32) -> u64 {
    let [a, b, c, d] = immediate.to_ne_bytes();
    u64::from_ne_bytes([CALL, registers, 0, 0, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_of_the_cast_are_rewritten() {
        let mark = CAST_CALL.to_ne_bytes();
        let mut object = vec![0x95, 0, 0, 0, 0, 0, 0, 0];
        object.extend([CALL, 0, 0, 0]);
        object.extend(mark);
        // A number that happens to be the same, as an operand of a move.
        object.extend([0xb7, 0, 0, 0]);
        object.extend(mark);
        object.push(1);
        let words = with_cast(&object, 7);
        let bytes = words.as_bytes();
        assert_eq!(bytes[..8], object[..8]);
        assert_eq!(bytes[8..16], [&[CALL, 0x20, 0, 0][..], &7u32.to_ne_bytes()].concat());
        assert_eq!(bytes[16..25], object[16..]);
        assert_eq!(bytes.len(), 32, "whole words, padded with zero");
    }
}
