//! The role of a workload that nobody declared: a guess from what runs in it. It never makes more
//! than a medium alert.

use super::enricher::{Enricher, Observation};
use super::process::Image;
use crate::model::{Body, Event};
use crate::rule::Role;

/// Programs, and modules or scripts given to an interpreter, that say what a workload is for.
/// Compared with whole names, so that `train.py.bak` or a path that contains `vllm` says nothing.
const SIGNS: &[(Role, &[&str])] = &[
    (
        Role::Inference,
        &[
            "vllm",
            "vllm.entrypoints.openai.api_server",
            "tritonserver",
            "ollama",
            "llama-server",
            "text-generation-launcher",
            "text-generation-server",
            "text-generation-router",
            "sglang.launch_server",
            "lmdeploy",
            "trtllm-serve",
            "tensorflow_model_server",
        ],
    ),
    (
        Role::Training,
        &[
            "torchrun",
            "torch.distributed.run",
            "torch.distributed.launch",
            "deepspeed",
            "accelerate",
            "horovodrun",
            "train.py",
            "pretrain.py",
            "finetune.py",
            "pretrain_gpt.py",
        ],
    ),
    (
        Role::Notebook,
        &["jupyter-lab", "jupyter-notebook", "jupyterhub-singleuser", "ipykernel_launcher"],
    ),
];

/// Arguments that are looked at: an interpreter's module or script stands near the front.
const ARGS_LOOKED_AT: usize = 8;

/// The role that a program suggests.
fn guess(image: &Image) -> Option<Role> {
    let paths = || [&image.exe].into_iter().chain(image.args.iter().take(ARGS_LOOKED_AT));
    let names = || paths().map(|path| path.rsplit('/').next().unwrap_or(path));
    SIGNS.iter().find(|(_, signs)| names().any(|name| signs.contains(&name))).map(|(role, _)| *role)
}

impl Enricher {
    /// Guesses the role of a workload whose profile declares none, when a program starts in it or
    /// is found there. The first guess stays: what runs later is often a tool.
    pub(super) fn guess_role(&mut self, event: &Event, seen: &Observation) {
        if !matches!(event.body, Body::Exec(_) | Body::ProcessSeen(_)) {
            return;
        }
        let image = seen.process.and_then(|handle| self.processes.get(handle));
        let Some(workload) = seen.workload.and_then(|handle| self.workloads.get_mut(handle)) else {
            return;
        };
        if workload.guessed_role.is_none() {
            workload.guessed_role = image.and_then(|process| guess(&process.image));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(exe: &str, args: &[&str]) -> Option<Role> {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        guess(&Image { exe: exe.to_owned(), args, ..Image::default() })
    }

    #[test]
    fn role_is_guessed_from_the_program_or_the_script_it_runs() {
        let python = "/usr/bin/python3.11";
        assert_eq!(guessed("/usr/bin/ollama", &["ollama", "serve"]), Some(Role::Inference));
        assert_eq!(
            guessed(python, &["python3", "-m", "vllm.entrypoints.openai.api_server"]),
            Some(Role::Inference)
        );
        assert_eq!(
            guessed(python, &["python3", "/opt/bin/torchrun", "x.py"]),
            Some(Role::Training)
        );
        assert_eq!(guessed(python, &["python3", "/job/train.py"]), Some(Role::Training));
        assert_eq!(guessed(python, &["python3", "-m", "ipykernel_launcher"]), Some(Role::Notebook));
    }

    #[test]
    fn name_that_only_contains_a_sign_says_nothing() {
        assert_eq!(guessed("/usr/bin/cat", &["cat", "/opt/vllm/notes.txt"]), None);
        assert_eq!(guessed("/usr/bin/python3", &["python3", "retrain.py"]), None);
        assert_eq!(guessed("", &[]), None);
    }
}
