//! One machine: booted, watched on its serial port, ended.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::report::{BootResult, read};
use crate::child;

/// A machine.
pub(super) struct Machine {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) kernel: PathBuf,
    pub(super) image: PathBuf,
    pub(super) command_line: String,
    pub(super) log: PathBuf,
    pub(super) use_kvm: bool,
    pub(super) memory_mib: u32,
    /// How long it may take.
    pub(super) patience: Duration,
}

impl Machine {
    /// Boots it and reads what its tests said.
    pub(super) fn boot(&self) -> BootResult {
        let start = Instant::now();
        let outcome = self.run();
        let text =
            String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
        let mut result = read(&self.name, &self.version, &text);
        result.seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(true) => {}
            Ok(false) => {
                let seconds = self.patience.as_secs();
                result.fail(&format!("it did not end within {seconds} s"));
            }
            Err(error) => result.fail(&format!("{error:#}")),
        }
        if result.failed > 0 {
            result.log = self.log.display().to_string();
        }
        result
    }

    /// `false` when it had to be ended.
    pub(super) fn run(&self) -> Result<bool> {
        let log = File::create(&self.log).with_context(|| self.log.display().to_string())?;
        let errors = log.try_clone()?;
        let accelerator = if self.use_kvm { "kvm" } else { "tcg" };
        // On a busy host the emulated timer may come too late for the kernel's test of it.
        let fixed = "console=ttyS0 quiet panic=-1 no_timer_check";
        let words = format!("{fixed} {}", self.command_line);
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-M", "q35", "-accel", accelerator, "-cpu", "max", "-smp", "1"])
            .args(["-m", &self.memory_mib.to_string(), "-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-serial", "stdio", "-no-reboot"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.image)
            .args(["-append", &words]);
        let mut machine = qemu
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {}", child::render(&qemu)))?;
        if child::wait_for(&mut machine, self.patience)?.is_some() {
            return Ok(true);
        }
        machine.kill().context("end a machine that hangs")?;
        machine.wait().context("end a machine that hangs")?;
        Ok(false)
    }
}
