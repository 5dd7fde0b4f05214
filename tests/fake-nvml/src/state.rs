//! The one state of a loaded library: scenario, clock, reference count, handles.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::code::{Answer, Code};
use crate::scenario::{CallRule, DeviceSpec, InstanceSpec, Scenario};

/// Names the scenario file.
const SCENARIO_ENV: &str = "FAKE_NVML_SCENARIO";
/// The scenario file beside the library, where the environment names none.
const SCENARIO_NAME: &str = "scenario.json";
/// Handles that can be out at once; a client that leaks more has a bug worth finding.
const HANDLES_MAX: usize = 4_096;
/// Second zero of a scenario with a clock of its own, in microseconds since 1970: in 2023.
const BEGAN_US: u64 = 1_700_000_000_000_000;
/// How often a hanging call looks whether it may go on, and a waiting one whether something came.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::default()));

#[derive(Default)]
struct State {
    stamp: Option<Stamp>,
    scenario: Option<Arc<Scenario>>,
    /// When the scenario was first read: by the steady clock, and in microseconds since 1970.
    began: Option<(Instant, u64)>,
    /// `nvmlInit` less `nvmlShutdown`.
    inits: u32,
    next_handle: usize,
    gpm: BTreeMap<usize, Option<GpmMoment>>,
    events: BTreeMap<usize, EventSet>,
}

/// What changes when a file does.
type Stamp = (u64, i64, i64, u64);

/// The moment a GPM sample was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct GpmMoment {
    pub(crate) device: usize,
    pub(crate) instance: Option<usize>,
    pub(crate) now_s: f64,
}

/// Which GPUs an event set listens to, and up to which fault each was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventSet {
    pub(crate) told: BTreeMap<usize, usize>,
}

/// A GPU or MIG instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) device: usize,
    pub(crate) instance: Option<usize>,
}

/// The scenario at one moment.
pub(crate) struct View {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) now_s: f64,
    /// Second zero as the driver's clock has it, in microseconds since 1970.
    pub(crate) began_us: u64,
}

impl View {
    /// The GPU with this index.
    pub(crate) fn device(&self, index: usize) -> Answer<&DeviceSpec> {
        self.scenario.devices.get(index).ok_or(Code::INVALID_ARGUMENT)
    }

    /// The GPU, or the GPU of the instance.
    pub(crate) fn spec(&self, target: Target) -> Answer<&DeviceSpec> {
        self.device(target.device)
    }

    /// The instance; `None` for a GPU.
    pub(crate) fn instance(&self, target: Target) -> Answer<Option<&InstanceSpec>> {
        let Some(at) = target.instance else { return Ok(None) };
        let mig = self.device(target.device)?.mig.as_ref().ok_or(Code::INVALID_ARGUMENT)?;
        mig.instances.get(at).map(Some).ok_or(Code::INVALID_ARGUMENT)
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Reads the scenario if it changed. A broken one is told on standard error, once.
    fn refresh(&mut self) -> Answer<View> {
        let path = scenario_path();
        let stamp = fs::metadata(&path)
            .map(|data| (data.ino(), data.mtime(), data.mtime_nsec(), data.len()))
            .ok();
        if self.stamp != stamp || self.stamp.is_none() {
            self.stamp = stamp;
            self.scenario = match Scenario::read(&path) {
                Ok(scenario) => Some(Arc::new(scenario)),
                Err(error) => {
                    complain(&error);
                    None
                }
            };
        }
        let scenario = Arc::clone(self.scenario.as_ref().ok_or(Code::UNKNOWN)?);
        if let Some(file) = &scenario.clock.file {
            let now_s = seconds_in(file)?;
            return Ok(View { scenario, now_s, began_us: BEGAN_US });
        }
        let (began, began_us) = *self.began.get_or_insert_with(|| (Instant::now(), wall_us()));
        Ok(View { scenario, now_s: began.elapsed().as_secs_f64(), began_us })
    }
}

#[expect(clippy::print_stderr, reason = "a library has no other way to tell a developer")]
fn complain(error: &str) {
    eprintln!("fake-nvml: {error}");
}

fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(BEGAN_US)
}

fn seconds_in(file: &Path) -> Answer<f64> {
    let text = fs::read_to_string(file).map_err(|_| Code::UNKNOWN)?;
    text.trim().parse().map_err(|_| Code::UNKNOWN)
}

fn scenario_path() -> PathBuf {
    if let Some(path) = std::env::var_os(SCENARIO_ENV) {
        return path.into();
    }
    let library = own_path().unwrap_or_default();
    library.parent().unwrap_or_else(|| Path::new(".")).join(SCENARIO_NAME)
}

/// The file this library was loaded from: the mapping that holds its code.
fn own_path() -> Option<PathBuf> {
    static OWN: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let here = own_path as *const () as usize;
        let maps = fs::read_to_string("/proc/self/maps").ok()?;
        maps.lines().find_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let end = usize::from_str_radix(end, 16).ok()?;
            let path = rest.find('/').map(|at| PathBuf::from(&rest[at..]))?;
            (start..end).contains(&here).then_some(path)
        })
    });
    OWN.clone()
}

/// Counts an `nvmlInit`.
pub(crate) fn init(call: &str) -> Answer {
    pass(call, None, false)?;
    state().inits += 1;
    Ok(())
}

/// Counts an `nvmlShutdown`.
pub(crate) fn shutdown() -> Answer {
    pass("nvmlShutdown", None, true)?;
    let mut state = state();
    state.inits = state.inits.saturating_sub(1);
    if state.inits == 0 {
        state.gpm.clear();
        state.events.clear();
    }
    Ok(())
}

/// Lets a call in: delays it, hangs it or refuses it as the scenario says.
pub(crate) fn enter(call: &str, device: Option<usize>) -> Answer<View> {
    let view = pass(call, device, true)?;
    if let Some(index) = device {
        let lost = view.device(index)?.lost_from_s;
        if lost.is_some_and(|from_s| view.now_s >= from_s) {
            return Err(Code::GPU_IS_LOST);
        }
    }
    Ok(view)
}

fn pass(call: &str, device: Option<usize>, needs_init: bool) -> Answer<View> {
    let look = || -> Answer<(View, Option<CallRule>)> {
        let mut state = state();
        if needs_init && state.inits == 0 {
            return Err(Code::UNINITIALIZED);
        }
        let view = state.refresh()?;
        let rule = view.scenario.calls.iter().find(|rule| rule.fits(call, device, view.now_s));
        let rule = rule.cloned();
        Ok((view, rule))
    };
    let (mut view, mut rule) = look()?;
    while rule.as_ref().is_some_and(|rule| rule.hang) {
        thread::sleep(LOOK_AGAIN);
        (view, rule) = look()?;
    }
    let Some(rule) = rule else { return Ok(view) };
    thread::sleep(Duration::from_millis(rule.delay_ms));
    match rule.returns.as_deref().and_then(Code::from_name) {
        Some(code) => Err(code),
        None => Ok(view),
    }
}

/// The scenario now, for a call that is already in.
pub(crate) fn look() -> Answer<View> {
    state().refresh()
}

/// Sleeps a little and looks again.
pub(crate) fn look_again() -> Answer<View> {
    thread::sleep(LOOK_AGAIN);
    look()
}

/// Makes a handle for a GPM sample.
pub(crate) fn gpm_new() -> Answer<usize> {
    let mut state = state();
    if state.gpm.len() >= HANDLES_MAX {
        return Err(Code::UNKNOWN);
    }
    let handle = state.new_handle();
    state.gpm.insert(handle, None);
    Ok(handle)
}

/// Fills a GPM sample.
pub(crate) fn gpm_set(handle: usize, moment: GpmMoment) -> Answer {
    let mut state = state();
    let slot = state.gpm.get_mut(&handle).ok_or(Code::INVALID_ARGUMENT)?;
    *slot = Some(moment);
    Ok(())
}

/// A filled GPM sample.
pub(crate) fn gpm_get(handle: usize) -> Answer<GpmMoment> {
    state().gpm.get(&handle).copied().flatten().ok_or(Code::INVALID_ARGUMENT)
}

/// Frees a GPM sample.
pub(crate) fn gpm_free(handle: usize) -> Answer {
    state().gpm.remove(&handle).map(drop).ok_or(Code::INVALID_ARGUMENT)
}

/// Makes a handle for an event set.
pub(crate) fn events_new() -> Answer<usize> {
    let mut state = state();
    if state.events.len() >= HANDLES_MAX {
        return Err(Code::UNKNOWN);
    }
    let handle = state.new_handle();
    state.events.insert(handle, EventSet::default());
    Ok(handle)
}

/// Works on an event set.
pub(crate) fn events_with<T>(handle: usize, work: impl FnOnce(&mut EventSet) -> T) -> Answer<T> {
    state().events.get_mut(&handle).map(work).ok_or(Code::INVALID_ARGUMENT)
}

/// Frees an event set.
pub(crate) fn events_free(handle: usize) -> Answer {
    state().events.remove(&handle).map(drop).ok_or(Code::INVALID_ARGUMENT)
}

impl State {
    /// A handle that was never out before: one that is used after it was freed is found.
    fn new_handle(&mut self) -> usize {
        self.next_handle += 1;
        0x0f00_0000 + self.next_handle * 16
    }
}
