//! gpuwarden, a runtime monitor for AI workloads on GPU hosts.
//!
//! The way data takes, one module a word:
//!
//! > hook → emit → ring → **drain** → **decode** → **enrich** → **correlate** → **alert** →
//! > **export**, and **sample → enrich** for the GPU.
//!
//! | module | what it owns |
//! |---|---|
//! | [`model`] | the facts every stage speaks of; depends on nothing of ours |
//! | [`config`] | raw → check → checked types, all errors at once |
//! | [`kernel`] | what the running kernel can do: BTF offsets, probes, the canary |
//! | [`sensor`] | the catalog of sensors, the loader, the ring drain |
//! | [`decode`] | bytes → [`model::Event`]; total, never panics |
//! | [`gpu`] | the GPU backend trait, NVML, the sampler |
//! | [`cluster`] | names and GPU allocations, as Kubernetes and SLURM tell them |
//! | [`enrich`] | processes, lineage, workloads, labels, accounting |
//! | [`rule`] | parse → check → compile → eval |
//! | [`correlate`] | windows and state: bounded, deterministic, the clock is an argument |
//! | [`alert`] | dedupe, severity, evidence, redaction |
//! | [`export`] | encoders, sinks, the disk spool |
//! | [`telemetry`] | every metric name in one place; `/metrics`, `/livez`, `/readyz` |
//! | [`import`] | rules of others in our form |
//! | [`recording`] | events and samples in files: written beside the line, read by replay |
//! | `yaml` | text to values that know their place, for rules and configuration |
//! | [`pipeline`] | the only file that knows every stage |
#![forbid(unsafe_code)]

pub mod alert;
mod cause;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod correlate;
pub mod decode;
pub mod enrich;
pub mod export;
pub mod gpu;
pub mod import;
pub mod kernel;
pub mod model;
pub mod pipeline;
pub mod recording;
pub mod rule;
pub mod sensor;
pub mod shutdown;
pub mod telemetry;
mod yaml;
