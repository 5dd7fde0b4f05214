//! The daemon with GPUs, played by the fake driver library. Needs root and a kernel with BTF.

#[path = "../daemon/mod.rs"]
#[expect(dead_code, reason = "these tests need a part of it")]
mod daemon;
mod hang;
#[path = "../kubelet/mod.rs"]
mod kubelet;
mod page;
mod pod;
#[path = "../gpu_fake_nvml/stage.rs"]
#[expect(dead_code, reason = "these tests need a stage and not its rounds")]
mod stage;
mod states;
