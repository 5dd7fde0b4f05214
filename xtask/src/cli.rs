//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::actor::ActorTask;
use crate::suite::StepName;

/// Build, run, test and measure gpuwarden.
///
/// On a fresh machine two commands are enough: `cargo xtask run` installs what is missing, builds,
/// and watches this host; `cargo xtask test` does the same for the whole test suite. Both need
/// root, because packages are installed and programs are loaded into the kernel.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Find or install the BPF toolchain (and, with --tests, what the tests run against)
    ///
    /// On Debian 12 and newer the distribution's compiler with a BPF `core` is used; elsewhere
    /// rustup's nightly with rust-src. Both need bpf-linker. Doing it twice is harmless and takes
    /// less than a second.
    Setup(SetupArgs),
    /// Build the daemon and its kernel programs
    Build(BuildArgs),
    /// Set up, build, and watch this host with the shipped rules (needs root)
    Run(RunArgs),
    /// Set up, build, and run every check and test there is (needs root)
    ///
    /// Each step writes to a log under target/xtask/, shown when the step fails. The last line is
    /// `N passed, N failed`, counting single tests.
    Test(TestArgs),
    /// Play scripted incidents against a real monitor and show the alerts (needs root)
    ///
    /// Every incident is real: processes read files and send bytes to a sink in a network
    /// namespace of its own. Each has a harmless twin that must stay silent.
    Demo(DemoArgs),
    /// Try to dodge a real monitor in every way we know, and see whether it notices (needs root)
    ///
    /// Each case does the thing for real, in cgroups and a network namespace of its own, and says
    /// what it did; events and alerts of the monitor are held against that.
    Evasion(TrialArgs),
    /// Do everything harmless that looks like an attack; nothing may alert (needs root)
    Benign(TrialArgs),
    /// Watch an incident with a real Prometheus: metrics, rules, dashboard (needs root)
    Observe(ReceiverArgs),
    /// Deliver alerts to a real rsyslog over TLS and to a webhook with an outage (needs root)
    Deliver(ReceiverArgs),
    /// Boot other kernels and run the tests of the sensors on them
    ///
    /// The newest Debian kernels of the series in tests/vm/kernels.txt are fetched once and booted
    /// in an emulator. The last line is `N passed, N failed, N skipped`.
    Vm(VmArgs),
    /// Fetch a real NVIDIA driver library from Debian's archive, and print where it lies
    ///
    /// The tests hold the fake library against it. It is kept in the cache, never in the tree.
    Driver,
    /// Measure overhead, latency, loss, memory, start time (needs root)
    Bench(BenchArgs),
    /// Feed the parsers whatever libFuzzer comes up with (needs a nightly toolchain)
    ///
    /// Without a name, every target in turn. What is found is kept under target/xtask/fuzz/; an
    /// input that breaks something, under tests/fuzz/artifacts/.
    Fuzz(FuzzArgs),
    /// Check the house rules: sizes, names, reasons, limits, links, tests of rules
    Tidy(TidyArgs),
    /// A part in a demo or a benchmark
    #[command(hide = true, subcommand)]
    Actor(ActorTask),
}

/// What `setup` takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SetupArgs {
    /// Also install what the test suite runs against: Prometheus, rsyslog, containers and so on
    #[arg(long)]
    pub(crate) tests: bool,
    /// Change nothing: say what is there, and fail when something is missing
    #[arg(long)]
    pub(crate) check: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `build` takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct BuildArgs {
    /// Optimise: what is shipped, measured and demonstrated
    #[arg(long)]
    pub(crate) release: bool,
}

/// What `run` takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RunArgs {
    /// Arguments for `gpuwarden run`, after `--`, e.g. `-- --config my.yaml --output json`
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
}

/// What `test` takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TestArgs {
    /// Run this step only; may be given more than once
    #[arg(long, value_name = "STEP")]
    pub(crate) only: Vec<StepName>,
    /// Print the table as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `fuzz` takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct FuzzArgs {
    /// Targets; see --list
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// How long each of them runs
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub(crate) seconds: std::num::NonZeroU32,
    /// List the targets and end
    #[arg(long)]
    pub(crate) list: bool,
}

/// What `demo` takes.
#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct DemoArgs {
    /// Play this incident only; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// List the incidents and end
    #[arg(long)]
    pub(crate) list: bool,
    /// Use this gpuwarden instead of building one from the tree
    #[arg(long, value_name = "FILE")]
    pub(crate) monitor: Option<PathBuf>,
    /// Keep the directory with configuration, models, and the monitor's output
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the first alert into the marked block of README.md
    #[arg(long, conflicts_with = "json")]
    pub(crate) readme: bool,
}

/// What `evasion` and `benign` take.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TrialArgs {
    /// Play these cases only, e.g. `--only 05,13`
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// List the cases and end
    #[arg(long)]
    pub(crate) list: bool,
    /// Use this gpuwarden instead of building one from the tree
    #[arg(long, value_name = "FILE")]
    pub(crate) monitor: Option<PathBuf>,
    /// Keep the directory with configuration, events, logs, and the monitor's output
    #[arg(long)]
    pub(crate) keep: bool,
    /// Print the outcome as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the table into the marked block of this document
    #[arg(long, value_name = "FILE")]
    pub(crate) doc: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
}

/// Where `evasion` plays, beside this host.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct MachineArgs {
    /// Play in emulated machines with these kernels, where hooks of the full tier work: on LSM
    /// hooks, and on 5.10 on entries of functions
    #[arg(long, value_name = "SERIES", num_args = 0..=1, value_delimiter = ',')]
    #[arg(default_missing_value = "6.12")]
    pub(crate) vm: Vec<String>,
    /// With `--vm`: play before the monitor that is built without optimising
    #[arg(long, requires = "vm")]
    pub(crate) debug: bool,
    /// Machines at once, which share the cases; one on a desk, two in a CI
    #[arg(long, value_name = "N", requires = "vm")]
    pub(crate) jobs: Option<usize>,
    /// This is such a machine
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

/// What `observe` and `deliver` take.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ReceiverArgs {
    /// Use this gpuwarden instead of building one from the tree
    #[arg(long, value_name = "FILE")]
    pub(crate) monitor: Option<PathBuf>,
    /// Keep the directory with configuration, certificates, and what everyone wrote
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What `bench` takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// What to measure
    #[arg(value_enum, default_value_t = Measure::All)]
    pub(crate) measure: Measure,
    /// Pairs of measurements without and with the monitor, taken in turn
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) pairs: u32,
    /// Put the figures into docs/performance.md, in place of those that stand there
    #[arg(long, conflicts_with_all = ["json", "out"])]
    pub(crate) doc: bool,
    /// Also measure bpftrace, counting the same calls, as a peer
    #[arg(long)]
    pub(crate) peer: bool,
    /// Operations in one measurement of a cheap call; dear ones take a share of it
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1000..))]
    pub(crate) operations: u32,
    /// Pin the generator to this CPU
    #[arg(long, default_value_t = 0)]
    pub(crate) cpu: usize,
    /// Use this gpuwarden instead of building one from the tree
    #[arg(long, value_name = "FILE")]
    pub(crate) monitor: Option<PathBuf>,
    /// Where the JSON result goes [default: bench.json in the directory of xtask's logs]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print the result as JSON instead of tables
    #[arg(long)]
    pub(crate) json: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// CPU time that the monitor adds to a system call
    Overhead,
    /// Time from a system call to its alert line
    Latency,
    /// Records lost while files are opened at full speed
    Loss,
    /// Memory and CPU of the daemon on a quiet host
    Rss,
    /// Time from start to ready
    Start,
    /// Events a second through rules, cost of a condition, memory of rules and windows (no root)
    Rules,
    /// CPU time of reading eight GPUs with many processes, over the fake driver library
    Gpu,
    /// All of these
    All,
}

/// What `vm` takes.
#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct VmArgs {
    /// Boot this series only, as in tests/vm/kernels.txt; may be given more than once
    #[arg(long, value_name = "SERIES")]
    pub(crate) kernel: Vec<String>,
    /// Run tests with this in their name only
    #[arg(long, value_name = "PART")]
    pub(crate) test: Option<String>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep the image under target/xtask/vm
    #[arg(long)]
    pub(crate) keep: bool,
    /// Build without optimising: sooner after a change, slower in the machine
    #[arg(long)]
    pub(crate) debug: bool,
    /// Machines at once; one on a desk, two in a CI
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<usize>,
    /// Use /dev/kvm: only where it runs unmodified kernels
    #[arg(long)]
    pub(crate) kvm: bool,
}

/// What `tidy` takes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TidyArgs {
    /// Print findings as JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}
