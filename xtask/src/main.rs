//! gpuwarden's one build tool: what a person, the CI and the documents call is a command here.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a build tool talks on these")]

mod actor;
mod bench;
mod child;
mod cli;
mod demo;
mod fuzz;
mod receiver;
mod setup;
mod stage;
mod suite;
mod tidy;
mod tree;
mod trial;
mod vm;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Task};
use crate::tree::Tree;

/// Exit code when whoever read our output has closed it, as `head` does: that of a program which
/// SIGPIPE ends.
const CLOSED_PIPE: i32 = 141;

fn main() -> ExitCode {
    end_with_the_reader();
    let cli = Cli::parse();
    let result = match cli.task {
        // An actor is a part of a demo or a benchmark: it needs no tree.
        Task::Actor(actor) => actor::run(actor).map(|()| ExitCode::SUCCESS),
        task => Tree::find().and_then(|tree| run(&tree, task)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Ends quietly where `println!` would panic because nobody reads any more.
fn end_with_the_reader() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>();
        if message.is_some_and(|text| text.contains("stdout: Broken pipe")) {
            std::process::exit(CLOSED_PIPE);
        }
        report(panic);
    }));
}

fn run(tree: &Tree, task: Task) -> anyhow::Result<ExitCode> {
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    match task {
        Task::Setup(setup) => done(setup::run(tree, &setup)),
        Task::Build(build) => done(suite::build(tree, &build)),
        Task::Run(run) => suite::run_monitor(tree, &run),
        Task::Test(test) => suite::test(tree, &test),
        Task::Demo(demo) => demo::run(tree, &demo),
        Task::Evasion(args) => trial::run(tree, trial::Suite::Evasion, &args),
        Task::Benign(args) => trial::run(tree, trial::Suite::Benign, &args),
        Task::Observe(args) => receiver::observe(tree, &args),
        Task::Deliver(args) => receiver::deliver(tree, &args),
        Task::Vm(args) => vm::run(tree, &args),
        Task::Driver => done(vm::driver::run(tree)),
        Task::Bench(bench) => done(bench::run(tree, &bench)),
        Task::Fuzz(args) => fuzz::run(tree, &args),
        Task::Tidy(tidy) => tidy::run(tree, &tidy),
        Task::Actor(_) => unreachable!("handled before the tree was looked for"),
    }
}
