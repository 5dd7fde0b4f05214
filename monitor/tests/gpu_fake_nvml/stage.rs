//! A stage for the fake NVML: a copy of the library with its own scenario and its own clock.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use monitor::gpu::NvmlDriver;
use monitor::gpu::backend::{GpuBackend, GpuDriver};
use monitor::gpu::library::LIBRARY_NAME;
use monitor::gpu::round::{Round, Rounds};
use monitor::model::BootNs;
use serde_json::{Value, json};
use tempfile::TempDir;

/// One second in nanoseconds.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The built library. Built once per test program, into the same target folder.
pub(crate) fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let exe = std::env::current_exe().expect("a test knows its own path");
        let profile = exe.ancestors().nth(2).expect("<target>/<profile>/deps/<test>");
        let target = profile.parent().expect("<target>/<profile>");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "fake-nvml", "--message-format=json"]);
        cargo.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo.output().expect("cargo can be run");
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "fake-nvml does not build: {errors}");
        let messages = String::from_utf8(built.stdout).expect("cargo speaks UTF-8");
        let artifact = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "fake_nvml")
            .find_map(|message| Some(PathBuf::from(message["filenames"][0].as_str()?)));
        artifact.expect("cargo names the library it built")
    })
}

/// A directory with a library, a scenario and a clock. Two stages do not see each other.
pub(crate) struct Stage {
    directory: TempDir,
}

impl Stage {
    /// A stage that plays `scenario`, with the clock at zero.
    pub(crate) fn new(scenario: &Value) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // A copy, not a link: the loader takes two links to one file for one library.
        fs::copy(library(), directory.path().join(LIBRARY_NAME)).expect("room for a copy");
        let stage = Self { directory };
        stage.at(0.0);
        stage.play(scenario);
        stage
    }

    /// A stage with the scenario of a fixture, its clock taken over.
    pub(crate) fn of_fixture(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures/gpu")
            .join(format!("{name}.json"));
        let text =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::new(&serde_json::from_str(&text).expect("a fixture is JSON"))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Changes the scenario while clients run.
    pub(crate) fn play(&self, scenario: &Value) {
        let mut scenario = scenario.clone();
        scenario["clock"] = json!({"file": "clock"});
        self.put("scenario.json", &scenario.to_string());
    }

    /// Sets the clock.
    pub(crate) fn at(&self, seconds: f64) {
        self.put("clock", &seconds.to_string());
    }

    /// Writes a file in one step, so that no reader sees half of it.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let draft = self.path().join(format!("{name}.draft"));
        fs::write(&draft, text).expect("the stage is writable");
        fs::rename(&draft, self.path().join(name)).expect("the stage is writable");
    }

    /// A driver that finds this stage's library and no other.
    pub(crate) fn driver(&self) -> NvmlDriver {
        NvmlDriver { paths: vec![self.path().to_owned()], is_exclusive: true }
    }

    /// Opens the library and works on it.
    pub(crate) fn open<T>(&self, mut work: impl FnMut(&mut dyn GpuBackend) -> T) -> T {
        let mut result = None;
        self.driver()
            .with_backend(&mut |backend| result = Some(work(backend)))
            .expect("the library of the stage opens");
        result.expect("an open library is worked on")
    }

    /// Rounds at these seconds.
    pub(crate) fn rounds(&self, seconds: &[f64]) -> Vec<Round> {
        self.open(|backend| {
            let mut rounds = Rounds::default();
            seconds.iter().map(|at| self.round(&mut rounds, backend, *at)).collect()
        })
    }

    /// One round at this second.
    pub(crate) fn round(
        &self,
        rounds: &mut Rounds,
        backend: &mut dyn GpuBackend,
        at: f64,
    ) -> Round {
        self.at(at);
        rounds.next(backend, boot(at)).expect("the backend stays open")
    }
}

/// A second of the scenario as a moment of the monitor: an hour after boot.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
pub(crate) fn boot(seconds: f64) -> BootNs {
    BootNs(3_600 * SECOND + (seconds * 1e9) as u64)
}
