//! Cases as they stand in `tests/evasion/cases.yaml` and `tests/benign/cases.yaml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::demo::GpuLoad;

/// Patience with what a case must show, unless it says otherwise.
const WITHIN_S: u64 = 8;
/// MiB of a case's model, unless it says otherwise: more than the 16 MiB below which
/// weights-bulk-egress stays silent.
const MODEL_MIB: u32 = 24;

/// How much more patience an emulated machine needs.
pub(super) const SLOWNESS: u64 = 4;

/// A file of cases.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cases: Vec<Case>,
}

/// Something that is done, and what must be seen of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) id: String,
    /// What is done, in one line for people.
    pub(super) does: String,
    /// The profile that the case's cgroup selects.
    #[serde(default = "isolated")]
    pub(super) class: String,
    #[serde(default = "model_mib")]
    pub(super) model_mib: u32,
    /// Whether nothing in the model says that it is one: it is known by its place alone, in a
    /// directory that the platform team lists, and by a name of which there are many.
    #[serde(default)]
    pub(super) model_is_raw: bool,
    #[serde(default)]
    pub(super) gpu: Gpu,
    #[serde(default)]
    pub(super) monitor: MonitorPart,
    pub(super) actors: Vec<Actor>,
    #[serde(default)]
    pub(super) expect: Expect,
    /// Why the case is not played in an emulated machine, on the full tier, unless it is asked for.
    pub(super) not_in_machine: Option<String>,
    /// Why the case does not pass yet; docs/blind-spots.md says more.
    pub(super) gap: Option<String>,
    /// The same on older kernels only.
    gap_before: Option<GapBefore>,
    /// Why the case is not run on this host.
    pub(super) skip: Option<String>,
    /// What was made easier for the sake of time, for the table.
    pub(super) scaled: Option<String>,
}

impl Case {
    /// As it is played in an emulated machine: slowly, and on the full tier.
    pub(super) fn inside(mut self) -> Self {
        self.expect.within_s = Some(self.expect.within_s() * SLOWNESS);
        self
    }

    /// As it is judged on a kernel, by the first two numbers of its version.
    pub(super) fn on(mut self, kernel: (u32, u32)) -> Self {
        if let Some(GapBefore { kernel: (major, minor), why }) = &self.gap_before
            && kernel < (*major, *minor)
        {
            self.gap = Some(format!("before Linux {major}.{minor} {why}"));
        }
        self
    }
}

/// Something that the monitor does not see on older kernels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GapBefore {
    /// The first kernel on which it does.
    kernel: (u32, u32),
    why: String,
}

/// The first two numbers of a kernel's release, as `6.12.117+deb12`; zero for what is none.
pub(super) fn kernel_of(release: &str) -> (u32, u32) {
    let mut parts = release.trim().split(['.', '-', '+', '~']);
    let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    (next(), next())
}

/// A process that plays.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Actor {
    #[serde(default = "main_actor")]
    pub(super) name: String,
    /// A script beside the cases, and its arguments.
    pub(super) run: Vec<String>,
    /// A directory below the case's cgroup.
    #[serde(default)]
    pub(super) place: String,
    /// The next actor is told to begin when this one has said so; without, when it has ended.
    pub(super) until: Option<String>,
    /// It goes on until everybody else has ended, and is then ended.
    #[serde(default)]
    pub(super) helper: bool,
    /// It is in no cgroup of the case: somebody else on this host.
    #[serde(default)]
    pub(super) outside: bool,
    /// It is on another host, and in no cgroup of the case unless `place` names one.
    #[serde(default)]
    pub(super) far: bool,
}

/// Which monitor looks on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum MonitorPart {
    /// The one that looked on at the cases before.
    #[default]
    Shared,
    /// A new one that starts once every actor is ready.
    Later,
    /// The one that looked on before; it is of no use afterwards, and a new one is started.
    Spent,
    /// One that an actor kills; a new one starts after that, and the actor is told to go on.
    Killed,
}

/// What the fake GPU does meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Gpu {
    #[default]
    Idle,
    Hashing,
    Training,
}

impl From<Gpu> for GpuLoad {
    fn from(gpu: Gpu) -> Self {
        match gpu {
            Gpu::Idle => Self::Idle,
            Gpu::Hashing => Self::Hashing,
            Gpu::Training => Self::Training,
        }
    }
}

/// What must be seen.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// Rules that must alert about this case.
    #[serde(default)]
    pub(super) rules: Vec<String>,
    #[serde(default)]
    pub(super) events: Vec<Fact>,
    within_s: Option<u64>,
    /// Whether records may be lost meanwhile: the case is about a flood.
    #[serde(default)]
    pub(super) may_lose: bool,
}

impl Expect {
    pub(super) fn within_s(&self) -> u64 {
        self.within_s.unwrap_or(WITHIN_S)
    }
}

/// An event that must be seen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fact {
    pub(super) kind: String,
    /// Fields and their values; text may begin or end with `*`, a number may be `{min: N}`.
    #[serde(default, rename = "where")]
    pub(super) fields: BTreeMap<String, Value>,
    /// The act whose process must have caused it; without, any process of the case.
    pub(super) by: Option<String>,
    /// A sum over all such events, held against what the actors say.
    pub(super) total: Option<Total>,
    /// The process is named; its cgroup may be another one (an attacker of the monitor).
    #[serde(default)]
    pub(super) elsewhere: bool,
}

/// A sum that must be what an actor said.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Total {
    pub(super) field: String,
    /// The act whose `bytes` are added up.
    pub(super) said: String,
    /// Whether more is right too: an upper bound, or a header that the sender does not count.
    #[serde(default)]
    pub(super) at_least: bool,
}

impl Fact {
    /// For the table.
    pub(super) fn shown(&self) -> String {
        let fields = self.fields.iter().map(|(name, value)| {
            let short = name.rsplit_once('.').map_or(name.as_str(), |(_, last)| last);
            match value.as_str() {
                Some(text) => format!("{short}={text}"),
                None => format!("{short}={value}"),
            }
        });
        let total = self.total.iter().map(|total| {
            let sign = if total.at_least { ">=" } else { "=" };
            format!("{}{sign}said", total.field.rsplit('.').next().unwrap_or_default())
        });
        let inner: Vec<String> = fields.chain(total).collect();
        format!("{}({})", self.kind, inner.join(" "))
    }
}

fn isolated() -> String {
    "isolated-training".to_owned()
}

fn main_actor() -> String {
    "main".to_owned()
}

const fn model_mib() -> u32 {
    MODEL_MIB
}

/// Reads a file of cases; mistakes that YAML cannot know are refused.
pub(super) fn read(path: &Path) -> Result<Vec<Case>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let File { cases } =
        serde_saphyr::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    for (at, case) in cases.iter().enumerate() {
        if cases[..at].iter().any(|other| other.id == case.id) {
            bail!("{}: case `{}` is there twice", path.display(), case.id);
        }
        if case.actors.is_empty() || case.actors.iter().any(|actor| actor.run.is_empty()) {
            bail!("{}: case `{}` lacks something to run", path.display(), case.id);
        }
    }
    Ok(cases)
}

/// The cases that were asked for, in the order of the file.
pub(super) fn choose(cases: Vec<Case>, only: &[String]) -> Result<Vec<Case>> {
    if let Some(name) = only.iter().find(|name| !cases.iter().any(|case| case.id == **name)) {
        let known: Vec<_> = cases.iter().map(|case| case.id.as_str()).collect();
        bail!("no case `{name}`; there are {}", known.join(", "));
    }
    Ok(cases.into_iter().filter(|case| only.is_empty() || only.contains(&case.id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(suite: &str) -> Vec<Case> {
        let file = format!("../tests/{suite}/cases.yaml");
        read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("the cases are readable")
    }

    #[test]
    fn every_case_runs_a_script_that_is_there() {
        for suite in ["evasion", "benign"] {
            for case in cases(suite) {
                for actor in &case.actors {
                    let script = format!("../tests/{suite}/{}", actor.run[0]);
                    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
                    assert!(path.is_file(), "{}: {}", case.id, path.display());
                }
            }
        }
    }

    #[test]
    fn evasion_expects_something_and_benign_expects_no_rule() {
        for case in cases("evasion") {
            let Expect { rules, events, .. } = &case.expect;
            assert!(!rules.is_empty() || !events.is_empty(), "{}", case.id);
        }
        assert!(cases("benign").iter().all(|case| case.expect.rules.is_empty()));
    }

    #[test]
    fn unknown_case_is_refused_with_the_known_ones() {
        let error = choose(cases("evasion"), &["no-such".to_owned()]).expect_err("unknown");
        assert!(error.to_string().contains("01"), "{error}");
    }

    #[test]
    fn gap_of_older_kernels_is_none_on_newer_ones() {
        let text = "{id: a, does: b, actors: [{run: [c]}], \
                    gap_before: {kernel: [5, 19], why: nothing tells}}";
        let case: Case = serde_saphyr::from_str(text).expect("a case");
        let gap = |release| case.clone().on(kernel_of(release)).gap;
        let expected = Some("before Linux 5.19 nothing tells".to_owned());
        assert_eq!(gap("5.10.0-46-cloud-amd64\n"), expected);
        assert_eq!(gap("5.9"), expected);
        assert_eq!(gap("5.19.0"), None);
        assert_eq!(gap("6.1.0"), None);
    }

    #[test]
    fn case_that_is_there_twice_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("cases.yaml");
        let case = "{id: a, does: b, actors: [{run: [c]}]}";
        fs::write(&path, format!("cases: [{case}, {case}]")).expect("write");
        assert!(read(&path).expect_err("twice").to_string().contains("twice"));
    }
}
