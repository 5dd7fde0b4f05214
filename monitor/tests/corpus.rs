//! The fuzz targets on the stable toolchain: every stored input, and mutations of it that come from
//! a fixed seed. What a fuzzer found once stays found.

#[expect(unreachable_pub, reason = "the fuzz binaries link it as a library")]
#[path = "../../tests/fuzz/src/target.rs"]
mod target;

use std::fs;
use std::path::Path;

/// Mutations of each stored input; some seconds for all targets without optimisation.
/// `GPUWARDEN_MUTATIONS` asks for more.
const MUTATIONS: u32 = 20;
/// Bytes that are put into an input at a time.
const INSERTED_BYTES_MAX: u64 = 16;

/// Stored inputs of one target, in order of name.
fn stored(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus").join(target);
    let entries =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("the folder can be listed").path();
            let bytes = fs::read(&path).expect("a stored input can be read");
            (path.file_name().expect("a file").to_string_lossy().into_owned(), bytes)
        })
        .collect();
    inputs.sort();
    inputs
}

/// `SplitMix64`: the same mutations on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).expect("below a usize")
    }
}

/// One to four changes: a flipped bit, another byte, a cut, bytes put in, a part doubled, a word
/// that lengths do not expect.
fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.next().to_le_bytes()[0],
            2 => bytes.truncate(at),
            3 => {
                let count = random.next() % INSERTED_BYTES_MAX;
                let new: Vec<u8> = (0..count).map(|_| random.next().to_le_bytes()[0]).collect();
                bytes.splice(at..at, new);
            }
            4 => {
                let end = at + random.below(bytes.len() - at);
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ if at + 4 <= bytes.len() => {
                let words = [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
                let word = words[random.below(words.len())];
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            _ => {}
        }
    }
    bytes
}

fn replay(name: &str) {
    let (_, run) = target::TARGETS.into_iter().find(|(known, _)| *known == name).expect("a target");
    let mutations = match std::env::var("GPUWARDEN_MUTATIONS") {
        Ok(count) => count.parse().expect("GPUWARDEN_MUTATIONS is a number"),
        Err(_) => MUTATIONS,
    };
    let inputs = stored(name);
    assert!((1..=64).contains(&inputs.len()), "{name} has {} stored inputs", inputs.len());
    run(&[]);
    for (file, bytes) in inputs {
        run(&bytes);
        let mut random = Random(bytes.len() as u64);
        for n in 0..mutations {
            let mutant = mutate(&bytes, &mut random);
            let outcome = std::panic::catch_unwind(|| run(&mutant));
            assert!(outcome.is_ok(), "{name}: mutation {n} of {file}: {}", mutant.escape_ascii());
        }
    }
}

#[test]
fn decode_survives_its_corpus() {
    replay("decode");
}

#[test]
fn rule_loader_survives_its_corpus() {
    replay("rule_loader");
}

#[test]
fn config_survives_its_corpus() {
    replay("config");
}

#[test]
fn dns_survives_its_corpus() {
    replay("dns");
}

#[test]
fn payload_survives_its_corpus() {
    replay("payload");
}

#[test]
fn spool_survives_its_corpus() {
    replay("spool");
}

#[test]
fn btf_survives_its_corpus() {
    replay("btf");
}

#[test]
fn every_target_has_a_fuzz_binary_and_stored_inputs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz");
    for (name, _) in target::TARGETS {
        assert!(root.join("fuzz_targets").join(name).with_extension("rs").is_file(), "{name}");
        assert!(root.join("corpus").join(name).is_dir(), "{name}");
    }
    assert_eq!(fs::read_dir(root.join("corpus")).expect("a folder").count(), target::TARGETS.len());
}
