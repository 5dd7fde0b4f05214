//! What stays attached as long as somebody holds it: links to tracepoints, and the task iterator.

use std::collections::BTreeMap;
use std::fs::File;

use aya::programs::trace_point::TracePointLink;

/// Threads that let go of links side by side. For each link the kernel waits until no CPU runs the
/// program any more (`kernel/trace/bpf_trace.c`, `perf_event_detach_bpf_prog`, 6.13 and newer: a
/// grace period of RCU tasks trace), some 30 ms that can be spent together: a thread for each link,
/// as long as there are not more. Beside a flood of opens eight threads took 1.8 s, these 1.6 s
/// (6.18).
pub(super) const RELEASE_THREADS_MAX: usize = 64;

/// What is attached and is not let go of with its program.
#[derive(Default)]
pub(super) struct Held {
    links: BTreeMap<&'static str, Vec<TracePointLink>>,
    /// The task iterator's output, until it is read.
    pub(super) iterator: Option<File>,
}

impl Held {
    /// Keeps a link of a program.
    pub(super) fn keep(&mut self, program: &'static str, link: TracePointLink) {
        self.links.entry(program).or_default().push(link);
    }

    /// Lets go of a program's links.
    pub(super) fn release(&mut self, program: &str) {
        release(self.links.remove(program).into_iter().flatten().collect());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        release(std::mem::take(&mut self.links).into_values().flatten().collect());
    }
}

fn release(mut links: Vec<TracePointLink>) {
    let share = links.len().div_ceil(RELEASE_THREADS_MAX).max(1);
    std::thread::scope(|scope| {
        while links.len() > share {
            let part = links.split_off(links.len() - share);
            // A host that gives no thread lets go of them one after the other, here: what a
            // thread was to take is dropped with the closure.
            let _by_its_end = std::thread::Builder::new()
                .name("release".to_owned())
                .spawn_scoped(scope, move || drop(part));
        }
        drop(links);
    });
}
