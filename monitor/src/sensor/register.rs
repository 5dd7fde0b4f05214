//! Whether the programs, as they are linked, read a register before anything was written to it.
//!
//! The compiler may do that where the value cannot matter: of a choice between equals, or of a
//! result whose error is thrown away. The kernel refuses such a program all the same
//! (`R1 !read_ok`), but only a kernel that cannot rule the path out: what loads on one does not
//! load on another. So every program is looked at as the kernel gets it, and on no kernel.

use std::collections::{BTreeMap, HashSet};

use aya_obj::Object;
use monitor_common::CAST_CALL;

/// Registers, one bit for each of `r0` to `r10`.
type Registers = u16;

/// What a function or a helper returns.
const R0: Registers = 1;
/// The context of a program.
const R1: Registers = 1 << 1;
/// `r1` to `r5`, which pass arguments and do not survive a call.
const ARGUMENTS: Registers = 0b11_1110;
/// The frame pointer.
const R10: Registers = 1 << 10;

/// Instruction codes (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WIDE: u8 = 0x18;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `BPF_CMPXCHG`, which compares with `r0` and leaves the old value there.
const EXCHANGE_IF: i32 = 0xf1;
/// `BPF_PSEUDO_CALL` in the place of the source register (include/uapi/linux/bpf.h).
const OWN_FUNCTION: u8 = 1;

/// Helpers that the programs call, and how many arguments each takes (include/uapi/linux/bpf.h).
/// One that is missing fails the test, which is the moment to look it up.
const HELPERS: &[(u32, u32)] = &[
    (1, 2),   // map_lookup_elem
    (2, 4),   // map_update_elem
    (3, 2),   // map_delete_elem
    (7, 0),   // get_prandom_u32
    (14, 0),  // get_current_pid_tgid
    (16, 2),  // get_current_comm
    (26, 4),  // skb_load_bytes
    (35, 0),  // get_current_task
    (46, 1),  // get_socket_cookie
    (79, 1),  // skb_cgroup_id
    (80, 0),  // get_current_cgroup_id
    (112, 3), // probe_read_user
    (113, 3), // probe_read_kernel
    (114, 3), // probe_read_user_str
    (115, 3), // probe_read_kernel_str
    (125, 0), // ktime_get_boot_ns
    (127, 3), // seq_write
    (130, 4), // ringbuf_output
    (131, 3), // ringbuf_reserve
    (132, 2), // ringbuf_submit
    (133, 2), // ringbuf_discard
    (134, 2), // ringbuf_query
    (158, 0), // get_current_task_btf
    (175, 1), // task_pt_regs
    (CAST_CALL, 2),
];

/// `struct bpf_insn` (include/uapi/linux/bpf.h).
#[derive(Clone, Copy)]
struct Insn {
    code: u8,
    to: u8,
    from: u8,
    jump: i16,
    number: i32,
}

/// The programs of an object as the kernel gets them: each with the functions that it calls.
fn linked(object: &[u8]) -> BTreeMap<String, Vec<Insn>> {
    let mut object = Object::parse(object).expect("the object");
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).expect("calls between functions");
    let code = |program: &aya_obj::Program| {
        let insns = &object.functions[&program.function_key()].instructions;
        let insns = insns.iter().map(|insn| Insn {
            code: insn.code,
            to: insn.dst_reg(),
            from: insn.src_reg(),
            jump: insn.off,
            number: insn.imm,
        });
        insns.collect()
    };
    object.programs.iter().map(|(name, program)| (name.clone(), code(program))).collect()
}

/// Reads of registers that may hold nothing: the instruction, and the register.
fn unwritten(code: &[Insn]) -> Vec<(usize, u32)> {
    let mut known = BTreeMap::new();
    let mut faults = Vec::new();
    Function { code, start: 0 }.look(R1 | R10, &mut known, &mut faults);
    faults.sort_unstable();
    faults.dedup();
    faults
}

/// What a caller must know of a function.
#[derive(Clone, Copy)]
struct Shape {
    /// The arguments that it reads.
    reads: Registers,
    /// Whether it returns something on every path.
    answers: bool,
}

#[derive(Clone, Copy)]
struct Function<'a> {
    code: &'a [Insn],
    start: usize,
}

impl Function<'_> {
    /// Looks at a function that starts with `written`, and at those that it calls.
    fn look(
        self,
        written: Registers,
        known: &mut BTreeMap<usize, Shape>,
        faults: &mut Vec<(usize, u32)>,
    ) -> bool {
        // What is surely written before each instruction that is reached.
        let mut before: BTreeMap<usize, Registers> = BTreeMap::new();
        let mut paths = vec![(self.start, written)];
        while let Some((at, written)) = paths.pop() {
            let old = before.get(&at).copied();
            let both = old.map_or(written, |old| old & written);
            if old == Some(both) {
                continue;
            }
            before.insert(at, both);
            let (_, writes, clobbers) = self.effect(at, known, faults);
            let after = both & !clobbers | writes;
            paths.extend(next(self.code, at).into_iter().map(|at| (at, after)));
        }
        let mut answers = true;
        for (at, written) in before {
            let is_exit = self.code[at].code == EXIT;
            answers &= !is_exit || written & R0 != 0;
            // A function of our own need not return anything; a program must.
            let reads =
                if is_exit && self.start != 0 { 0 } else { self.effect(at, known, faults).0 };
            let missing = reads & !written;
            faults.extend((0..=10).filter(|at| missing >> at & 1 == 1).map(|bit| (at, bit)));
        }
        answers
    }

    /// What an instruction reads, writes, and leaves without a value.
    fn effect(
        self,
        at: usize,
        known: &mut BTreeMap<usize, Shape>,
        faults: &mut Vec<(usize, u32)>,
    ) -> (Registers, Registers, Registers) {
        let insn = self.code[at];
        if insn.code != CALL {
            let (reads, writes) = plain(insn);
            return (reads, writes, 0);
        }
        if insn.from != OWN_FUNCTION {
            let helper = insn.number.cast_unsigned();
            let known = HELPERS.iter().find(|(id, _)| *id == helper);
            let (_, arguments) = known.unwrap_or_else(|| panic!("helper {helper} is not listed"));
            return (((1 << arguments) - 1) << 1, R0, ARGUMENTS);
        }
        let start = target(at, insn.number);
        let shape = known.get(&start).copied().unwrap_or_else(|| {
            let callee = Function { code: self.code, start };
            let answers = callee.look(ARGUMENTS | R10, known, faults);
            // Without any argument, what is missing is what it reads of them.
            let mut missing = Vec::new();
            callee.look(R10, known, &mut missing);
            let reads = missing.iter().fold(0, |reads, (_, bit)| reads | 1 << bit) & ARGUMENTS;
            known.insert(start, Shape { reads, answers });
            Shape { reads, answers }
        });
        (shape.reads, if shape.answers { R0 } else { 0 }, ARGUMENTS | R0)
    }
}

/// Where an instruction may go on.
fn next(code: &[Insn], at: usize) -> Vec<usize> {
    let insn = code[at];
    match (insn.code & 7, insn.code >> 4) {
        (_, _) if insn.code == EXIT => Vec::new(),
        (_, _) if insn.code == LOAD_WIDE => vec![at + 2],
        (5, 0) => vec![target(at, i32::from(insn.jump))],
        (6, 0) => vec![target(at, insn.number)],
        (5 | 6, operation) if operation != CALL >> 4 => {
            vec![at + 1, target(at, i32::from(insn.jump))]
        }
        _ => vec![at + 1],
    }
}

fn target(at: usize, distance: i32) -> usize {
    let distance = isize::try_from(distance).expect("64 bits");
    at.wrapping_add(1).wrapping_add_signed(distance)
}

/// What an instruction that is no call reads and writes.
fn plain(insn: Insn) -> (Registers, Registers) {
    let (to, from): (Registers, Registers) = (1 << insn.to, 1 << insn.from);
    // BPF_X: the second operand is a register.
    let operand = if insn.code & 8 != 0 { from } else { 0 };
    match (insn.code & 7, insn.code >> 4) {
        _ if insn.code == EXIT => (R0, 0),
        (0, _) => (0, to),
        (1, _) => (from, to),
        (2, _) => (to, 0),
        // An atomic operation may fetch the old value into its source (BPF_FETCH).
        (3, _) if insn.code >> 5 == 6 && insn.number == EXCHANGE_IF => (to | from | R0, R0),
        (3, _) if insn.code >> 5 == 6 && insn.number & 1 != 0 => (to | from, from),
        (3, _) => (to | from, 0),
        (4 | 7, 0xb) => (operand, to),
        // A negation and a swap of bytes have one operand.
        (4 | 7, 0x8 | 0xd) => (to, to),
        (4 | 7, _) => (to | operand, to),
        (5 | 6, 0) => (0, 0),
        _ => (to | operand, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::loader::OBJECT;

    const fn insn(code: u8, to: u8, from: u8, jump: i16, number: i32) -> Insn {
        Insn { code, to, from, jump, number }
    }

    /// `to = number`
    const fn set(to: u8, number: i32) -> Insn {
        insn(0xb7, to, 0, 0, number)
    }

    /// `if to != 0 goto +jump`
    const fn unless(to: u8, jump: i16) -> Insn {
        insn(0x55, to, 0, jump, 0)
    }

    const KTIME: Insn = insn(CALL, 0, 0, 0, 125);
    const END: Insn = insn(EXIT, 0, 0, 0, 0);

    #[test]
    fn register_is_written_only_if_it_is_on_every_path() {
        // if r1 != 0 goto over; r2 = 1; over: r0 = r2; exit
        let code = [unless(1, 1), set(2, 1), insn(0xbf, 0, 2, 0, 0), END];
        assert_eq!(unwritten(&code), [(2, 2)]);
        let code = [set(2, 0), unless(1, 1), set(2, 1), insn(0xbf, 0, 2, 0, 0), END];
        assert_eq!(unwritten(&code), []);
    }

    #[test]
    fn call_leaves_nothing_in_the_arguments_and_something_in_r0() {
        assert_eq!(unwritten(&[KTIME, unless(1, 0), END]), [(1, 1)]);
        assert_eq!(unwritten(&[END]), [(0, 0)], "a program returns something");
        // map_lookup_elem takes two.
        assert_eq!(unwritten(&[insn(CALL, 0, 0, 0, 1), END]), [(0, 2)]);
    }

    #[test]
    fn caller_gives_what_a_function_reads_and_gets_what_it_returns() {
        // r2 is not given; the function reads it, and returns nothing on one of its paths.
        let call = insn(CALL, 0, OWN_FUNCTION, 0, 1);
        let function = [unless(2, 1), set(0, 1), END];
        let code = [&[call, END][..], &function].concat();
        assert_eq!(unwritten(&code), [(0, 2), (1, 0)]);
        let code = [&[set(2, 0), insn(CALL, 0, OWN_FUNCTION, 0, 1), set(0, 0), END][..]].concat();
        let code = [code, function.to_vec()].concat();
        assert_eq!(unwritten(&[&code[..1], &[insn(CALL, 0, 1, 0, 2)], &code[2..]].concat()), []);
    }

    #[test]
    fn no_program_reads_a_register_that_holds_nothing() {
        if OBJECT.is_empty() {
            assert!(std::env::var_os("AYA_BUILD_SKIP").is_some(), "the object is empty");
            return;
        }
        let programs = linked(OBJECT);
        assert!(programs.len() > 40, "{} programs", programs.len());
        let faults: Vec<String> = programs
            .iter()
            .flat_map(|(name, code)| {
                let faults = unwritten(code).into_iter();
                faults.map(move |(at, bit)| format!("{name}: instruction {at} reads r{bit}"))
            })
            .collect();
        assert!(
            faults.is_empty(),
            "kernels that cannot rule the path out refuse these; `llvm-objdump -dl` of the object \
             shows the lines, and a value that is set on every path (`read::optional`) mends \
             them:\n{}",
            faults.join("\n")
        );
    }
}
