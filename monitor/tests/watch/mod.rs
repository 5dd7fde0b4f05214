//! Watches the running kernel for one test: loads the sensors, keeps every decoded event.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use monitor::decode::{self, DecodeStats};
use monitor::kernel::support;
use monitor::model::{Body, Event};
use monitor::rule::Demand;
use monitor::sensor::{self, Drain, DrainStats, Frame, KernelCounters, Settings, SharedMaps, Wake};
use monitor_common::{CLASS_WEIGHTS, InodeKey};

/// The sensors and what they saw.
pub(crate) struct Watch {
    events: Arc<Mutex<Vec<Event>>>,
    stats: Arc<Mutex<DecodeStats>>,
    drained: Arc<DrainStats>,
    maps: SharedMaps,
    wake: Wake,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    pub(crate) loaded: sensor::Loaded,
}

/// Reports everything: loopback, small files, and each open.
pub(crate) fn settings() -> Settings {
    Settings {
        report_loopback: true,
        name_class_bytes: 0,
        open_repeat_ns: 0,
        ..Settings::default()
    }
}

impl Watch {
    /// Loads and attaches everything, flows to loopback included.
    pub(crate) fn start() -> Self {
        Self::start_with(settings())
    }

    /// As [`Watch::start`], told otherwise.
    pub(crate) fn start_with(settings: Settings) -> Self {
        support::check().expect("run as root on a kernel with BTF");
        let root = support::cgroup2_root().expect("a cgroup v2 hierarchy");
        let mut loaded = sensor::load(&settings, &root).expect("the sensors load");
        let rings = loaded.take_rings().expect("the rings are there");
        let mut maps = loaded.take_maps().expect("the maps are there");
        assert!(maps.name_class("safetensors", CLASS_WEIGHTS));
        sensor::interest::tell(&mut maps);
        let drained = Arc::new(DrainStats::default());
        let (drain, mut high, mut bulk) =
            Drain::new(rings, Arc::clone(&drained)).expect("a reader");
        let wake = drain.wake();
        let stop = Arc::new(AtomicBool::new(false));
        let events = Arc::new(Mutex::new(Vec::new()));
        let stats = Arc::new(Mutex::new(DecodeStats::default()));
        let reader = std::thread::spawn(move || drain.run(|| {}));
        let decoder = std::thread::spawn({
            let (stop, events, stats) =
                (Arc::clone(&stop), Arc::clone(&events), Arc::clone(&stats));
            move || {
                let mut frame = Frame::new();
                loop {
                    let stopping = stop.load(Ordering::Acquire);
                    while high.next(&mut frame).or_else(|| bulk.next(&mut frame)).is_some() {
                        let result = decode::decode(&frame);
                        stats.lock().expect("not poisoned").count(&result);
                        events.lock().expect("not poisoned").push(result.expect("decodes"));
                    }
                    if stopping {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let threads = vec![reader, decoder];
        Self { events, stats, drained, maps, wake, stop, threads, loaded }
    }

    /// Tells the kernel side what is needed.
    #[allow(dead_code, reason = "one of the tests that share this module asks for it")]
    pub(crate) fn want(&mut self, wanted: &sensor::Wanted) {
        assert!(self.maps.want(wanted));
    }

    /// Tells the kernel side which paths rules name. Returns whether it takes all of them.
    #[allow(dead_code, reason = "one of the tests that share this module asks for it")]
    pub(crate) fn want_paths(&mut self, paths: &mut sensor::PathWatch, demand: &Demand) -> bool {
        paths.apply(&demand.paths, &demand.prefixes, &mut self.maps)
    }

    /// What the daemon writes for the kernel side to read.
    #[allow(dead_code, reason = "one of the tests that share this module asks for it")]
    pub(crate) fn maps(&mut self) -> &mut SharedMaps {
        &mut self.maps
    }

    /// Every event so far.
    #[allow(dead_code, reason = "one of the tests that share this module asks for it")]
    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().expect("not poisoned").clone()
    }

    /// Labels a file's inode.
    pub(crate) fn label(&mut self, path: &Path, label: u32) {
        let meta = std::fs::metadata(path).expect("the file is there");
        let device = rustix::fs::major(meta.dev()) << 20 | rustix::fs::minor(meta.dev());
        let key = InodeKey { inode: meta.ino(), device, generation: 0 };
        assert!(self.maps.label(key, Some(label)));
    }

    /// The first event that matches, past or to come.
    pub(crate) fn wait(&self, at_most: Duration, matches: impl Fn(&Event) -> bool) -> Event {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(event) =
                self.events.lock().expect("not poisoned").iter().find(|event| matches(event))
            {
                return event.clone();
            }
            assert!(Instant::now() < deadline, "the event did not come; {}", self.accounts());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Events that match so far.
    pub(crate) fn count(&self, matches: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().expect("not poisoned").iter().filter(|event| matches(event)).count()
    }

    /// Waits until nothing has come for longer than any pause of a busy machine; on one that is
    /// never quiet, for ten seconds.
    pub(crate) fn settle(&self) {
        let (mut before, mut quiet) = (usize::MAX, 0);
        let end = Instant::now() + Duration::from_secs(10);
        while quiet < 5 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(150));
            let now = self.events.lock().expect("not poisoned").len();
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
    }

    /// What the kernel side counted.
    pub(crate) fn counters(&self) -> Vec<KernelCounters> {
        self.maps.counters()
    }

    /// Bytes by cgroup, as sockets and as packets have them.
    #[allow(dead_code, reason = "one of the tests that share this module asks for it")]
    pub(crate) fn egress(&self) -> Vec<(u64, monitor_common::EgressSum)> {
        self.maps.egress()
    }

    /// The cgroup whose records were refused most often, and how often.
    pub(crate) fn noisiest(&self) -> Option<(u64, u64)> {
        self.maps.noisiest()
    }

    /// Everything that is counted, and the last events, for a test that failed.
    pub(crate) fn accounts(&self) -> String {
        let events = self.events.lock().expect("not poisoned");
        let tail: Vec<&Event> = events
            .iter()
            .rev()
            .filter(|event| {
                matches!(event.body, Body::Flow(_) | Body::FileOpen(_) | Body::SocketNew(_))
            })
            .take(12)
            .collect();
        format!(
            "{} sensors, drain {:?}, decode {:?}, kernel {:?}, noisiest {:?}, last events {tail:?}",
            self.loaded.status.len(),
            self.drained,
            self.stats.lock().expect("not poisoned"),
            self.counters(),
            self.noisiest()
        )
    }

    /// `received = decoded + malformed + unknown`, and what was sent was received.
    pub(crate) fn assert_received_is_accounted_for(&self) {
        let stats = *self.stats.lock().expect("not poisoned");
        assert_eq!(stats.received, stats.decoded + stats.malformed + stats.unknown);
        let drained =
            self.drained.high.load(Ordering::Relaxed) + self.drained.bulk.load(Ordering::Relaxed);
        assert!(stats.received <= drained);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.wake.stop();
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok(), "a thread of the watch panicked");
        }
    }
}

/// Runs a Python script to its end and gives its process id.
pub(crate) fn python(_watch: &Watch, script: &str, args: &[&str]) -> u32 {
    let mut child = Command::new("/usr/bin/env")
        .args(["python3", "-c", script])
        .args(args)
        .stdout(Stdio::null())
        .spawn()
        .expect("python3 is there");
    let id = child.id();
    let status = child.wait().expect("it ends");
    assert!(status.success(), "the script failed: {status}");
    id
}
