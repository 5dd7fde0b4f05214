//! Weights that are carried on: copies, archives, what is written after a model was read; and where
//! programs come from.

use super::*;
use crate::model::{Completeness, Evidence, ExeWriter, FileChange, FileOp, FileRead, WallNs};

const MIB: u64 = 1 << 20;

fn seed(path: &str, inode: u64, size_bytes: u64) -> LabelSeed {
    LabelSeed {
        id: FileId { device: 7, inode, generation: 0 },
        path: path.into(),
        size_bytes,
        format: Format::Safetensors,
    }
}

fn written(path: &str, inode: u64) -> FileOpen {
    FileOpen { open_flags: 1, ..open(path, inode, 0) }
}

/// A host with a model of 8 GiB, of which a process has read.
fn reading() -> Stage {
    let mut stage = Stage::new();
    stage.enricher.label(&seed("/models/llama/w.safetensors", 5, 8 << 30));
    stage.act(actor(10), Body::FileOpen(open("/models/llama/w.safetensors", 5, 8 << 30)));
    stage
}

impl Stage {
    fn evidence(&self, of: &(Event, Observation)) -> Evidence {
        let completeness = Completeness { complete: true, ..Completeness::default() };
        self.enricher.evidence(&of.0, &of.1, &NoGpu, completeness)
    }

    /// Whether evidence says that less than the weights it names may have been read.
    fn is_bound(&self, of: &(Event, Observation)) -> bool {
        self.evidence(of).workload.is_some_and(|workload| workload.weight_bytes_are_bound)
    }

    fn grows(&mut self, path: &str, inode: u64, size_bytes: u64) -> Vec<(Event, Observation)> {
        self.host.0.lock().unwrap().sizes.insert(path.into(), (inode, size_bytes));
        self.now += 2 * SECOND;
        let events = self.enricher.written(BootNs(self.now));
        let observe = |event: Event| {
            let seen = self.enricher.observe(&event);
            (event, seen)
        };
        events.into_iter().map(observe).collect()
    }
}

#[test]
fn a_large_file_written_after_weights_were_read_is_derived_and_so_is_who_reads_it() {
    let mut stage = reading();
    stage.act(actor(10), Body::FileOpen(written("/tmp/x.tar", 9)));
    // Half a percent of 8 GiB are 41 MiB.
    assert!(stage.grows("/tmp/x.tar", 9, 30 * MIB).is_empty(), "a log is no copy");
    let told = stage.grows("/tmp/x.tar", 9, 60 * MIB);
    let [wrote] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(stage.text(wrote, FieldId::FileOp), "write");
    assert_eq!(stage.text(wrote, FieldId::FileDerivedFrom), "llama");
    assert_eq!(stage.text(wrote, FieldId::WeightsDerivedBytes), (60 * MIB).to_string());
    assert!(matches!(wrote.1.label_changes.as_slice(), [LabelChange::Set(id, _)] if id.inode == 9));
    // Somebody else takes it away under another name.
    let taken = stage.act(actor(77), Body::FileOpen(open("/srv/cat.jpg", 9, 60 * MIB)));
    assert_eq!(stage.text(&taken, FieldId::FileDerivedFrom), "llama");
    assert_eq!(stage.text(&taken, FieldId::FileLabel), "llama");
    assert_eq!(stage.text(&taken, FieldId::WeightsModels), "llama");
    assert_eq!(stage.text(wrote, FieldId::WeightsOnlyDerived), "false", "it read the model");
    assert_eq!(stage.text(&taken, FieldId::WeightsOnlyDerived), "true");
    // The model has not grown by what was made from it.
    assert_eq!(stage.text(&taken, FieldId::WeightsSmallestModelBytes), (8_u64 << 30).to_string());
}

#[test]
fn an_archive_that_was_open_before_the_weights_were_read_is_followed_too() {
    let mut stage = Stage::new();
    stage.enricher.label(&seed("/models/llama/w.safetensors", 5, 8 << 30));
    stage.exec(10, "/usr/bin/tar");
    let open_files = vec![("/tmp/early.tar".to_owned(), 12)];
    stage.host.0.lock().unwrap().written.insert(10, open_files);
    stage.act(actor(10), Body::FileOpen(open("/models/llama/w.safetensors", 5, 8 << 30)));
    let told = stage.grows("/tmp/early.tar", 12, 100 * MIB);
    assert_eq!(told.len(), 1);
    assert_eq!(stage.text(&told[0], FieldId::FileDerivedFrom), "llama");
}

#[test]
fn who_has_read_nothing_derives_nothing_and_the_weights_are_no_copy_of_themselves() {
    let mut stage = reading();
    stage.cgroup(66, "/kubepods/pod1");
    let other = Actor { cgroup: CgroupId(66), ..actor(66) };
    stage.act(other, Body::FileOpen(written("/tmp/y.tar", 10)));
    assert!(stage.grows("/tmp/y.tar", 10, 900 * MIB).is_empty());
    stage.act(actor(10), Body::FileOpen(written("/models/llama/w.safetensors", 5)));
    assert!(stage.grows("/models/llama/w.safetensors", 5, 9 << 30).is_empty());
}

#[test]
fn files_of_one_size_are_pieces_of_a_copy_once_they_carry_a_model() {
    let mut stage = reading();
    // Half a percent of 8 GiB are 41 MiB.
    let piece = |stage: &mut Stage, number: u64, size| {
        let path = format!("/tmp/p/{number}");
        stage.act(actor(10), Body::FileOpen(written(&path, 100 + number)));
        stage.grows(&path, 100 + number, size).len()
    };
    for number in 0..4 {
        assert_eq!(piece(&mut stage, number, 10 * MIB), 0, "{number}: not enough yet");
    }
    assert_eq!(piece(&mut stage, 4, 11 * MIB), 0, "of another size");
    assert_eq!(piece(&mut stage, 5, 10 * MIB), 5, "enough, and all are told");
    assert_eq!(piece(&mut stage, 6, 10 * MIB), 1, "one more");
    let id = |number| open("", 100 + number, 0).id;
    let is_labelled = |stage: &Stage, number| stage.enricher.label_path(&id(number)).is_some();
    let labelled: Vec<u64> = (0..7).filter(|number| is_labelled(&stage, *number)).collect();
    assert_eq!(labelled, [0, 1, 2, 3, 5, 6]);
    for number in 10..13 {
        assert_eq!(piece(&mut stage, number, 40 * MIB), 0, "three are few");
    }
}

#[test]
fn files_of_differing_sizes_are_pieces_once_they_are_as_long_as_a_whole_model() {
    let mut stage = Stage::new();
    stage.enricher.label(&seed("/models/small/w.safetensors", 5, 48 * MIB));
    stage.act(actor(10), Body::FileOpen(open("/models/small/w.safetensors", 5, 48 * MIB)));
    let piece = |stage: &mut Stage, number: u64, size| {
        let path = format!("/tmp/p/{number}");
        stage.act(actor(10), Body::FileOpen(written(&path, 100 + number)));
        stage.grows(&path, 100 + number, size).len()
    };
    for (number, size) in [(0, 11 * MIB), (1, 12 * MIB), (2, 13 * MIB), (3, 11 * MIB + 1)] {
        assert_eq!(piece(&mut stage, number, size), 0, "{number}: logs and caches are as long");
    }
    assert_eq!(piece(&mut stage, 4, 60 << 10), 0, "too short to be one");
    assert_eq!(piece(&mut stage, 5, MIB), 5, "as long as the model, and all are told");
    let id = open("", 102, 0).id;
    assert!(stage.enricher.label_path(&id).is_some());
}

#[test]
fn a_file_without_a_name_is_followed_by_what_its_writer_has_open() {
    let mut stage = reading();
    stage.act(actor(10), Body::FileOpen(written("/memfd:cache", 9)));
    stage.host.0.lock().unwrap().open_files.insert(9, 60 * MIB);
    stage.now += 2 * SECOND;
    let told = stage.enricher.written(BootNs(stage.now));
    let [event] = told.as_slice() else { panic!("{told:?}") };
    stage.enricher.observe(event);
    let read = stage.act(actor(50), Body::FileOpen(open("/proc/10/fd/3", 9, 60 * MIB)));
    assert_eq!(stage.text(&read, FieldId::FileDerivedFrom), "llama");
}

#[test]
fn a_copy_in_the_kernel_carries_the_label_and_a_rename_keeps_it() {
    let mut stage = reading();
    let change = FileChange {
        op: FileOp::Copy,
        id: FileId { device: 7, inode: 5, generation: 3 },
        path: "/models/llama/w.safetensors".into(),
        new_path: "/tmp/c".into(),
        other: FileId { device: 7, inode: 30, generation: 1 },
        size_bytes: 8 << 30,
        bytes: 8 << 30,
        fs_magic: 0x5846_5342,
    };
    let copied = stage.act(actor(10), Body::FileChange(change.clone()));
    assert_eq!(stage.text(&copied, FieldId::FileFs), "xfs");
    assert_eq!(stage.text(&copied, FieldId::FileClass), "weights");
    let mut moved = open("/tmp/d", 30, 8 << 30);
    moved.id.generation = 1;
    let read = stage.act(actor(50), Body::FileOpen(moved));
    assert_eq!(stage.text(&read, FieldId::FileDerivedFrom), "llama");
    let rename = FileChange { op: FileOp::Rename, new_path: "/tmp/e.jpg".into(), ..change };
    let renamed = stage.act(actor(10), Body::FileChange(rename));
    assert_eq!(stage.text(&renamed, FieldId::FileLabel), "llama");
    let id = FileId { device: 7, inode: 5, generation: 3 };
    assert_eq!(stage.enricher.label_path(&id), Some("/tmp/e.jpg"));
}

#[test]
fn bytes_read_are_exact_where_they_are_counted_and_a_bound_where_not() {
    for (is_exact, expected) in [(true, 30 * MIB), (false, 100 * MIB)] {
        let mut stage = Stage::new();
        stage.enricher.set_reads_exact(is_exact);
        stage.enricher.label(&seed("/models/m/w.safetensors", 5, 100 * MIB));
        stage.act(actor(10), Body::FileOpen(open("/models/m/w.safetensors", 5, 100 * MIB)));
        let read = |bytes: u64| {
            Body::FileRead(FileRead {
                id: FileId { device: 7, inode: 5, generation: 3 },
                bytes,
                bytes_total: bytes,
                is_mapped: false,
                size_bytes: 100 * MIB,
            })
        };
        stage.act(actor(10), read(10 * MIB));
        let at = stage.act(actor(10), read(20 * MIB));
        assert_eq!(stage.text(&at, FieldId::WeightsBytesRead), expected.to_string());
        assert_eq!(stage.text(&at, FieldId::FilePath), "/models/m/w.safetensors");
        let again = stage.act(actor(10), read(500 * MIB));
        let most = (100 * MIB).to_string();
        assert_eq!(stage.text(&again, FieldId::WeightsBytesRead), most, "no more than it has");
        assert_eq!(stage.text(&again, FieldId::WeightsFilesRead), "1");
    }
}

#[test]
fn a_reader_that_never_opened_the_file_is_marked_by_what_it_read() {
    let mut stage = Stage::new();
    stage.enricher.label(&seed("/models/m/w.safetensors", 5, 100 * MIB));
    let read = FileRead {
        id: FileId { device: 7, inode: 5, generation: 3 },
        bytes: 40 * MIB,
        bytes_total: 40 * MIB,
        is_mapped: false,
        size_bytes: 100 * MIB,
    };
    let passed = Actor { cgroup: CgroupId(900), ..actor(20) };
    let at = stage.act(passed, Body::FileRead(read));
    assert_eq!(stage.text(&at, FieldId::WeightsBytesRead), (40 * MIB).to_string());
    assert_eq!(at.1.mark, Some(CgroupId(900)), "what it writes must be told of");
}

#[test]
fn a_credential_a_file_system_and_a_device_are_named() {
    let mut stage = Stage::new();
    let key = stage.act(actor(10), Body::FileOpen(open("/home/a/.ssh/id_rsa", 1, 400)));
    assert_eq!(stage.text(&key, FieldId::FileSecretClass), "ssh");
    assert_eq!(stage.text(&key, FieldId::FileClass), "secret");
    assert_eq!(stage.text(&key, FieldId::FileFs), "ext4");
    let disk = FileOpen { file_type: FileType::Block, ..open("/dev/sda", 2, 0) };
    let disk = stage.act(actor(10), Body::FileOpen(disk));
    assert_eq!(stage.text(&disk, FieldId::FileFs), "block");
    assert_eq!(stage.text(&disk, FieldId::FileClass), "device");
}

#[test]
fn a_program_tells_its_age_its_writer_its_script_and_what_is_preloaded() {
    let mut stage = Stage::new();
    stage.exec(10, "/bin/bash");
    stage.fork(10, 11);
    stage.host.0.lock().unwrap().preload.insert(11, "/tmp/x.so".into());
    let Body::Exec(mut program) = exec(10, "/usr/bin/python3") else { panic!() };
    program.args = vec!["python3".into(), "train.py".into()];
    program.cwd = "/srv".into();
    program.exe_changed = Some(WallNs(stage.now - 30 * SECOND));
    let writer = ExeWriter { process: Tgid(10), cgroup: CgroupId(1), time: BootNs(stage.now) };
    program.exe_writer = Some(writer);
    let at = stage.act(actor(11), Body::Exec(program.clone()));
    assert_eq!(stage.text(&at, FieldId::ProcScript), "/srv/train.py");
    assert_eq!(stage.text(&at, FieldId::ProcExeWrittenHere), "true");
    assert_eq!(stage.text(&at, FieldId::ProcEnvPreload), "/tmp/x.so");
    let age: f64 = stage.text(&at, FieldId::ProcExeAgeSeconds).parse().unwrap();
    assert!((30.0..31.0).contains(&age), "{age}");
    // Nobody was seen to write it, and then somebody of another cgroup.
    program.exe_writer = None;
    let at = stage.act(actor(12), Body::Exec(program.clone()));
    assert_eq!(stage.text(&at, FieldId::ProcExeWrittenHere), "false");
    program.exe_writer = Some(ExeWriter { process: Tgid(99), cgroup: CgroupId(50), ..writer });
    let at = stage.act(actor(13), Body::Exec(program.clone()));
    assert_eq!(stage.text(&at, FieldId::ProcExeWrittenHere), "false");
    program.is_memfd = true;
    let at = stage.act(actor(14), Body::Exec(program));
    assert_eq!(stage.text(&at, FieldId::ProcExeWrittenHere), "true");
}

#[test]
fn labels_are_taken_back_for_files_that_are_still_the_same() {
    let mut stage = reading();
    stage.act(actor(10), Body::FileOpen(written("/tmp/x.tar", 9)));
    stage.grows("/tmp/x.tar", 9, 60 * MIB);
    let files = [("/models/llama/w.safetensors", (5, 8 << 30)), ("/tmp/x.tar", (9, 60 * MIB))];
    for (path, file) in files {
        stage.host.0.lock().unwrap().sizes.insert(path.into(), file);
    }
    let saved = stage.enricher.label_snapshot();
    let text = serde_json::to_string(&saved).unwrap();
    let read = || serde_json::from_str(&text).unwrap();
    let mut again = Stage::new();
    assert!(again.enricher.restore_labels(read()).is_empty(), "none of the files is there");
    again.host.0.lock().unwrap().sizes.extend(files.map(|(path, file)| (path.into(), file)));
    assert_eq!(again.enricher.restore_labels(read()).len(), 2);
    let taken = again.act(actor(77), Body::FileOpen(open("/srv/cat.jpg", 9, 60 * MIB)));
    assert_eq!(again.text(&taken, FieldId::FileDerivedFrom), "llama");
    assert_eq!(again.text(&taken, FieldId::WeightsSmallestModelBytes), (8_u64 << 30).to_string());
    // The scan finds the file again, and adds nothing.
    assert!(again.enricher.label(&seed("/models/llama/w.safetensors", 5, 8 << 30)).is_empty());
    let mut other = Stage::new();
    other.host.0.lock().unwrap().sizes.insert("/tmp/x.tar".into(), (9, 61 * MIB));
    assert!(other.enricher.restore_labels(read()).is_empty(), "it has another size by now");
}

#[test]
fn the_first_reader_of_what_nobody_labelled_counts_whole_also_where_reads_are_counted() {
    let mut stage = Stage::new();
    stage.enricher.set_reads_exact(true);
    // The kernel side knew no label, so it counted nothing.
    let first = open("/fresh/m.safetensors", 6, 100 * MIB);
    let at = stage.act(actor(10), Body::FileOpen(first.clone()));
    assert_eq!(stage.text(&at, FieldId::WeightsBytesRead), (100 * MIB).to_string());
    assert!(stage.is_bound(&at), "evidence says so");
    let other = stage.act(actor(50), Body::FileOpen(first));
    assert_eq!(stage.text(&other, FieldId::WeightsBytesRead), "0", "from now on they are counted");
    assert!(!stage.is_bound(&other));
}

#[test]
fn weights_held_before_the_start_count_whole_and_once_and_evidence_says_so() {
    for is_exact in [false, true] {
        let mut stage = Stage::new();
        stage.enricher.set_reads_exact(is_exact);
        let file = seed("/models/m/w.safetensors", 5, 100 * MIB);
        stage.enricher.label(&file);
        let plain = Body::FileOpen(open("/etc/x", 9, 10));
        stage.act(actor(10), plain.clone());
        let held = Held { process: Tgid(10), id: file.id, size_bytes: 100 * MIB };
        stage.enricher.held(&held, BootNs(9));
        stage.enricher.held(&held, BootNs(9));
        let read = FileRead {
            id: FileId { device: 7, inode: 5, generation: 3 },
            bytes: 40 * MIB,
            bytes_total: 40 * MIB,
            is_mapped: false,
            size_bytes: 100 * MIB,
        };
        stage.act(actor(10), Body::FileRead(read));
        let again = open("/models/m/w.safetensors", 5, 100 * MIB);
        let at = stage.act(actor(10), Body::FileOpen(again));
        assert_eq!(stage.text(&at, FieldId::WeightsBytesRead), (100 * MIB).to_string());
        assert_eq!(stage.text(&at, FieldId::WeightsFilesRead), "1");
        assert!(stage.is_bound(&at));
        let evidence = stage.evidence(&at);
        assert!(!evidence.completeness.complete);
        let unknowns = evidence.completeness.unknowns.join("; ");
        assert!(unknowns.contains("before the monitor started"), "{unknowns}");
        let other = stage.act(actor(50), plain);
        let unknowns = stage.evidence(&other).completeness.unknowns.join("; ");
        assert!(!unknowns.contains("before the monitor"), "{unknowns}");
    }
}
