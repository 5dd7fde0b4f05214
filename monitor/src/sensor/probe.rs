//! Which tiers this kernel takes, found out by trying: a small program of each sort is loaded and
//! attached, the system call that reaches it is made, and the program must have run.
//!
//! Neither a version nor a list of what was compiled in says as much. A kernel without `bpf` in its
//! LSM list loads and attaches LSM programs and never calls them; another refuses every program on
//! a function's entry, though it was built with all that this needs.

use aya::maps::Array;
use aya::{Btf as AyaBtf, Ebpf};

use super::attach::{attach_typed, chain, detach};
use super::catalog::Hook;

/// Where the kernel lists its active security modules, in the order in which they are asked.
const LSM_LIST: &str = "/sys/kernel/security/lsm";

/// What each tier above the base is, on this kernel: there, or why not.
#[derive(Clone, Debug)]
pub struct Tiers {
    /// Programs on LSM hooks.
    pub lsm: Result<(), String>,
    /// Programs on the entry and return of kernel functions.
    pub fentry: Result<(), String>,
}

impl Tiers {
    /// Where the base tier alone is wanted.
    pub(super) fn left_out() -> Self {
        let why = || Err("it was not asked for".to_owned());
        Self { lsm: why(), fentry: why() }
    }

    /// One sentence on both.
    pub fn describe(&self) -> String {
        match (&self.lsm, &self.fentry) {
            (Ok(()), Ok(())) => "full tier on LSM hooks and function entries".to_owned(),
            (Ok(()), Err(why)) => {
                format!("full tier on LSM hooks; function entries are off: {why}")
            }
            (Err(why), Ok(())) => {
                format!("full tier on function entries; LSM hooks are off: {why}")
            }
            (Err(lsm), Err(fentry)) if lsm == fentry => {
                format!("base tier; the full tier is off: {lsm}")
            }
            (Err(lsm), Err(fentry)) => {
                format!("base tier; LSM hooks are off: {lsm}; function entries are off: {fentry}")
            }
        }
    }
}

/// Tries both, and leaves nothing attached.
pub(super) fn tiers(ebpf: &mut Ebpf, btf: &AyaBtf) -> Tiers {
    // sched_getaffinity(2) reaches the hook; hardly anybody calls it, so that nobody else is held
    // up meanwhile.
    let lsm =
        tier(ebpf, btf, "probe_lsm", Hook::Lsm("task_getscheduler"), 0).map_err(|why| match why {
            Refused::Load(why) => why,
            Refused::Silent => format!(
                "LSM programs load and attach, but are never called: {}; add bpf to lsm= on the \
             kernel's command line",
                listed()
            ),
        });
    let fentry = tier(ebpf, btf, "probe_fentry", Hook::Fentry("security_task_getscheduler"), 1)
        .map_err(|why| match why {
            Refused::Load(why) => why,
            Refused::Silent => "programs on function entries attach, but are never called".into(),
        });
    Tiers { lsm, fentry }
}

enum Refused {
    /// The kernel's words.
    Load(String),
    /// Attached and never called.
    Silent,
}

fn tier(ebpf: &mut Ebpf, btf: &AyaBtf, name: &str, hook: Hook, slot: u32) -> Result<(), Refused> {
    let Some(program) = ebpf.program_mut(name) else {
        return Err(Refused::Load(format!("the object has no program {name}")));
    };
    if let Err(error) = attach_typed(program, hook, btf) {
        return Err(Refused::Load(chain(&error)));
    }
    let asked = rustix::thread::sched_getaffinity(None);
    detach(ebpf, name);
    asked.map_err(|error| Refused::Load(format!("sched_getaffinity: {error}")))?;
    let calls = calls(ebpf, slot).map_err(Refused::Load)?;
    if calls == 0 { Err(Refused::Silent) } else { Ok(()) }
}

/// How often a probe was called.
fn calls(ebpf: &Ebpf, slot: u32) -> Result<u64, String> {
    let map = ebpf.map("PROBE_CALLS").ok_or("the object has no map PROBE_CALLS")?;
    let map: Array<_, u64> = Array::try_from(map).map_err(|error| chain(&error))?;
    map.get(&slot, 0).map_err(|error| chain(&error))
}

/// What the kernel says of its security modules, in words.
fn listed() -> String {
    match std::fs::read_to_string(LSM_LIST) {
        Ok(list) => format!("bpf is not among the active security modules ({})", list.trim()),
        Err(error) => format!(
            "bpf is not among the active security modules (which they are cannot be read: \
             {LSM_LIST}: {error})"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reason_for_both_tiers_is_said_once() {
        let why = || Err("Operation not permitted".to_owned());
        let both = Tiers { lsm: why(), fentry: why() };
        assert_eq!(both.describe(), "base tier; the full tier is off: Operation not permitted");
        let one = Tiers { lsm: why(), fentry: Ok(()) };
        assert!(one.describe().starts_with("full tier on function entries"), "{}", one.describe());
    }
}
