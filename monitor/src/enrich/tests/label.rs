use super::*;
use crate::enrich::limit::HEADS_PER_SECOND_MAX;

const MIB: u64 = 1 << 20;

fn seed(path: &str, inode: u64, size_bytes: u64) -> LabelSeed {
    LabelSeed {
        id: FileId { device: 7, inode, generation: 0 },
        path: path.into(),
        size_bytes,
        format: Format::Safetensors,
    }
}

#[test]
fn a_label_follows_the_file_and_not_its_name() {
    let mut stage = Stage::new();
    stage.enricher.label(&seed("/models/llama/w.safetensors", 5, 10 * MIB));
    let renamed = stage.act(actor(10), Body::FileOpen(open("/tmp/holiday.jpg", 5, 10 * MIB)));
    assert_eq!(stage.text(&renamed, FieldId::FileLabel), "llama");
    assert_eq!(stage.text(&renamed, FieldId::FileFormat), "safetensors");
    // Another file under the old name, with nothing of weights in it.
    stage.file("/models/llama/w.safetensors", 6, b"#!/bin/sh");
    let swapped = open("/models/llama/readme.txt", 6, 10 * MIB);
    let other = stage.act(actor(10), Body::FileOpen(swapped));
    assert_eq!(stage.text(&other, FieldId::FileLabel), "");
    assert_eq!(stage.text(&other, FieldId::WeightsFilesRead), "1");
}

#[test]
fn the_first_open_tells_the_generation_and_the_kernel_follows() {
    let mut stage = Stage::new();
    let scanned = stage.enricher.label(&seed("/models/llama/w.safetensors", 5, MIB));
    let (old, label) = match scanned.as_slice() {
        [LabelChange::Set(id, label)] => (*id, *label),
        other => panic!("{other:?}"),
    };
    let file = open("/models/llama/w.safetensors", 5, MIB);
    let (_, seen) = stage.act(actor(10), Body::FileOpen(file.clone()));
    let expected = [LabelChange::Remove(old), LabelChange::Set(file.id, label)];
    assert_eq!(seen.label_changes, expected);
    let (_, again) = stage.act(actor(10), Body::FileOpen(file.clone()));
    assert!(again.label_changes.is_empty());
    // The inode number of a deleted file, given to another.
    let mut reused = open("/tmp/x", 5, MIB);
    reused.id.generation = 4;
    let of = stage.act(actor(10), Body::FileOpen(reused));
    assert_eq!(stage.text(&of, FieldId::FileLabel), "");
}

#[test]
fn weights_are_the_sizes_of_distinct_files_opened_for_reading() {
    let mut stage = Stage::new();
    for (inode, size) in [(1, 30), (2, 50)] {
        stage.enricher.label(&seed(
            &format!("/models/big/w{inode}.safetensors"),
            inode,
            size * MIB,
        ));
    }
    stage.enricher.label(&seed("/models/small/w.safetensors", 3, 7 * MIB));
    let read = |inode: u64, size: u64| Body::FileOpen(open("/models/x", inode, size * MIB));
    stage.act(actor(10), read(1, 30));
    stage.act(actor(10), read(1, 30));
    let of = stage.act(actor(10), read(2, 50));
    assert_eq!(stage.text(&of, FieldId::WeightsBytesRead), (80 * MIB).to_string());
    assert_eq!(stage.text(&of, FieldId::WeightsFilesRead), "2");
    assert_eq!(stage.text(&of, FieldId::WeightsSmallestModelBytes), (80 * MIB).to_string());
    let of = stage.act(actor(10), read(3, 7));
    assert_eq!(stage.text(&of, FieldId::WeightsSmallestModelBytes), (7 * MIB).to_string());
    assert_eq!(stage.text(&of, FieldId::WeightsModels), "big,small");

    let writing = FileOpen { open_flags: 1, ..open("/models/x", 3, 7 * MIB) };
    let of = stage.act(actor(500), Body::FileOpen(writing));
    assert_eq!(stage.text(&of, FieldId::WeightsBytesRead), "0", "writing is not reading");
    assert_eq!(stage.text(&of, FieldId::FileLabel), "small");
}

#[test]
fn a_file_is_labelled_at_open_by_what_is_in_it() {
    let mut stage = Stage::new();
    let mut opened = |path: &str, inode: u64, size: u64, head: &[u8]| {
        stage.file(path, inode, head);
        let of = stage.act(actor(10), Body::FileOpen(open(path, inode, size)));
        (stage.text(&of, FieldId::FileLabel), stage.text(&of, FieldId::FileFormat))
    };
    let pair = |label: &str, format: &str| (label.to_owned(), format.to_owned());
    assert_eq!(opened("/scratch/run/x.blob", 1, 70 * MIB, b"GGUF"), pair("run", "gguf"));
    assert_eq!(opened("/scratch/run/y.blob", 2, 70 * MIB, b"\x80\x04."), pair("", "unknown"));
    assert_eq!(opened("/scratch/old/z.pt", 3, 2 * MIB, b"\x80\x02."), pair("old", "pickle"));
    assert_eq!(opened("/scratch/py/site.pth", 4, 90, b"import x"), pair("", ""));
    assert_eq!(opened("/models/m/tokenizer.json", 5, 2 * MIB, b"{}"), pair("", "unknown"));
    assert_eq!(opened("/models/m/noname", 6, 10, b"GGUF"), pair("m", "gguf"));
}

#[test]
fn another_file_under_the_name_tells_nothing_of_the_one_opened() {
    let mut stage = Stage::new();
    stage.file("/scratch/run/x.blob", 99, b"GGUF");
    let of = stage.act(actor(10), Body::FileOpen(open("/scratch/run/x.blob", 1, 70 * MIB)));
    assert_eq!(stage.text(&of, FieldId::FileLabel), "");
}

#[test]
fn a_copy_that_an_overlay_made_is_derived_unless_it_is_empty() {
    let mut stage = Stage::new();
    stage.enricher.label(&seed("/models/big/w.bin", 1, 30 * MIB));
    let mut copied = |inode: u64, size: u64, of: u32| {
        let open = open("/merged/holiday.jpg", inode, size);
        let of = stage.act(actor(10), Body::FileOpen(FileOpen { copy_of: Some(of), ..open }));
        (stage.text(&of, FieldId::FileLabel), stage.text(&of, FieldId::FileDerivedFrom))
    };
    assert_eq!(copied(50, 0, 1).0, "", "it was cut when it was opened");
    assert_eq!(copied(51, 30 * MIB, 2).0, "", "nothing has such a label");
    assert_eq!(copied(52, 30 * MIB, 1), ("big".to_owned(), "big".to_owned()));
}

#[test]
fn files_of_file_systems_that_may_wait_are_not_read() {
    let mut stage = Stage::new();
    let remote = FileOpen { fs_magic: 0x6969, ..open("/scratch/run/x.pt", 1, 70 * MIB) };
    let of = stage.act(actor(10), Body::FileOpen(remote));
    assert_eq!(stage.text(&of, FieldId::FileLabel), "run", "by name and size alone");
    assert_eq!(stage.host.0.lock().unwrap().heads, 0);
}

#[test]
fn reads_of_starts_are_bounded_and_what_was_left_out_is_counted() {
    let mut stage = Stage::new();
    let bound = u64::from(HEADS_PER_SECOND_MAX);
    // Times of one second.
    for inode in 0..bound + 7 {
        let body = Body::FileOpen(open("/scratch/x.blob", 1_000 + inode, 70 * MIB));
        let event = Event { time: BootNs(SECOND * 200 + inode), actor: Some(actor(10)), body };
        stage.enricher.observe(&event);
    }
    assert_eq!(stage.host.0.lock().unwrap().heads as u64, bound);
    assert_eq!(stage.enricher.counters().heads_unread, 7);
    // A file without weights in it is not looked at again.
    let body = Body::FileOpen(open("/scratch/x.blob", 1_000, 70 * MIB));
    let event = Event { time: BootNs(SECOND * 300), actor: Some(actor(10)), body };
    stage.enricher.observe(&event);
    assert_eq!(stage.host.0.lock().unwrap().heads as u64, bound);
}

#[test]
fn the_evidence_shows_the_files_newest_first() {
    let mut stage = Stage::new();
    stage.enricher.label(&seed("/models/llama/w.safetensors", 5, 10 * MIB));
    stage.act(actor(10), Body::FileOpen(open("/models/llama/w.safetensors", 5, 10 * MIB)));
    let of = stage.act(actor(10), Body::FileOpen(open("/tmp/out.tar", 8, 0)));
    assert_eq!(stage.text(&of, FieldId::FileClass), "archive");
    let evidence =
        stage.enricher.evidence(&of.0, &of.1, &NoGpu, crate::model::Completeness::default());
    let paths: Vec<&str> = evidence.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["/tmp/out.tar", "/models/llama/w.safetensors"]);
    assert_eq!(evidence.files[1].label.as_deref(), Some("llama"));
    assert_eq!(evidence.workload.unwrap().models, ["llama"]);
}

#[test]
fn a_name_that_says_little_needs_content_that_says_more() {
    let mut stage = Stage::new();
    for (path, inode, head, label) in [
        ("/build/dep-graph.bin", 31, b"RSIC\0\0\x1d1".as_slice(), ""),
        ("/hub/pytorch_model.bin", 32, b"\x80\x02}q\0", "pytorch_model"),
        ("/hub/raw.pt", 33, b"\0\0\0\0", "raw"),
    ] {
        stage.file(path, inode, head);
        let of = stage.act(actor(10), Body::FileOpen(open(path, inode, 64 * MIB)));
        assert_eq!(stage.text(&of, FieldId::FileLabel), label, "{path}");
    }
}
