//! The sensors of this machine, loaded once, and everything they saw.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use monitor::decode;
use monitor::kernel::support;
use monitor::model::{Body, Clock, Event};
use monitor::sensor::{
    self, Drain, DrainStats, Frame, Frames, Loaded, ReadRests, Settings, SharedMaps, State, Status,
    Wake,
};
use monitor_common::InodeKey;

/// How long a fact may take. The guest's processor is emulated.
const SOON: Duration = Duration::from_secs(6);

/// The sensors and what they saw.
pub(crate) struct Watch {
    pub(crate) loaded: Loaded,
    pub(crate) maps: SharedMaps,
    pub(crate) events: Vec<Event>,
    pub(crate) refused: Vec<String>,
    rests: ReadRests,
    high: Frames,
    bulk: Frames,
    _wake: Wake,
}

impl Watch {
    /// Loads everything that this kernel takes, or of it what the base tier has; small files and
    /// loopback flows are told too.
    pub(crate) fn start(full_tier: bool) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        support::check().map_err(|error| text(&error))?;
        let root = support::cgroup2_root().map_err(|error| text(&error))?;
        let settings = Settings {
            report_loopback: true,
            name_class_bytes: 0,
            open_repeat_ns: 0,
            full_tier,
            ..Settings::default()
        };
        let mut loaded = sensor::load(&settings, &root).map_err(|error| text(&error))?;
        let rings = loaded.take_rings().map_err(|error| text(&error))?;
        let maps = loaded.take_maps().map_err(|error| text(&error))?;
        let (drain, high, bulk) =
            Drain::new(rings, DrainStats::default().into()).map_err(|error| text(&error))?;
        let wake = drain.wake();
        std::thread::spawn(move || drain.run(|| {}));
        let (events, refused) = (Vec::new(), Vec::new());
        let rests = ReadRests::default();
        Ok(Self { loaded, maps, events, refused, rests, high, bulk, _wake: wake })
    }

    /// The status of a sensor.
    pub(crate) fn status(&self, sensor: &str) -> Option<&Status> {
        self.loaded.status.iter().find(|status| status.sensor.name == sensor)
    }

    /// Whether a sensor watches without loss.
    pub(crate) fn is_attached(&self, sensor: &str) -> bool {
        self.status(sensor).is_some_and(|status| status.state == State::Attached)
    }

    /// Labels the inode of a file, and says which it is.
    pub(crate) fn label(&mut self, path: &str, label: u32) -> Result<InodeKey, String> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(path).map_err(|error| format!("{path}: {error}"))?;
        let device = rustix::fs::major(meta.dev()) << 20 | rustix::fs::minor(meta.dev());
        let key = InodeKey { inode: meta.ino(), device, generation: 0 };
        if self.maps.label(key, Some(label)) { Ok(key) } else { Err(format!("label {path}")) }
    }

    /// Starts a process that plays an act.
    pub(crate) fn spawn(name: &str, args: &[&str]) -> Result<Child, String> {
        Command::new("/proc/self/exe")
            .arg("act")
            .arg(name)
            .args(args)
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("start act {name}: {error}"))
    }

    /// Plays an act to its end. Returns its process id.
    pub(crate) fn play(name: &str, args: &[&str]) -> Result<u32, String> {
        let mut child = Self::spawn(name, args)?;
        let pid = child.id();
        let status = child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(pid) } else { Err(format!("act {name} ended with {status}")) }
    }

    /// Takes what has come.
    pub(crate) fn drain(&mut self) {
        let mut frame = Frame::new();
        while self.high.next(&mut frame).or_else(|| self.bulk.next(&mut frame)).is_some() {
            match decode::decode(&frame) {
                Ok(event) => self.take(event),
                Err(error) => self.refused.push(error.to_string()),
            }
        }
        let now = Clock::boot_now();
        let rests = self.rests.due(now, |reader| self.maps.bytes_read(reader));
        self.events.extend(rests);
    }

    /// As the daemon does: the rest of what a process read is told before its end.
    fn take(&mut self, mut event: Event) {
        if let (Body::Exit(_), Some(actor)) = (&event.body, &event.actor) {
            let sum = |reader: &_| self.maps.bytes_read_at_end(reader);
            let rests = self.rests.ended(actor.process.tgid, event.time, sum);
            self.events.extend(rests);
        }
        if self.rests.note(&mut event) {
            self.events.push(event);
        }
    }

    /// The first fact that matches, past or to come.
    pub(crate) fn wait(
        &mut self,
        what: &str,
        matches: impl Fn(&Event) -> bool,
    ) -> Result<Event, String> {
        let deadline = Instant::now() + SOON;
        loop {
            self.drain();
            if let Some(event) = self.events.iter().find(|event| matches(event)) {
                return Ok(event.clone());
            }
            if Instant::now() >= deadline {
                let last: Vec<_> = self.events.iter().rev().take(3).map(|e| &e.body).collect();
                return Err(format!(
                    "{what} was not seen; {} facts, last {last:?}",
                    self.events.len()
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets everything come that is on its way.
    pub(crate) fn settle(&mut self) {
        let mut before = usize::MAX;
        while before != self.events.len() {
            before = self.events.len();
            std::thread::sleep(Duration::from_millis(120));
            self.drain();
        }
    }
}
