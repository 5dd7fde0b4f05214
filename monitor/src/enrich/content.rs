//! What a file is: class by name, format by content, model by path. Pure.

use std::collections::HashMap;

use hashbrown::DefaultHashBuilder;
use monitor_common::Extension;

use crate::config::NameClasses;

/// Class of a file by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileClass {
    /// Model weights.
    Weights,
    /// Archive or encrypted container.
    Archive,
    /// Credential.
    Secret,
    /// No class.
    #[default]
    None,
}

impl FileClass {
    /// The word used in rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Archive => "archive",
            Self::Secret => "secret",
            Self::None => "none",
        }
    }
}

/// Format of weights by content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Safetensors.
    Safetensors,
    /// GGUF (llama.cpp).
    Gguf,
    /// `torch.save` since 1.6: a zip whose first entry is `data.pkl`.
    TorchZip,
    /// Python pickle, `torch.save` before 1.6 among them.
    Pickle,
    /// HDF5, Keras among them.
    Hdf5,
    /// ONNX.
    Onnx,
    /// None of these.
    #[default]
    Unknown,
}

impl Format {
    /// The word used in rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::TorchZip => "torch-zip",
            Self::Pickle => "pickle",
            Self::Hdf5 => "hdf5",
            Self::Onnx => "onnx",
            Self::Unknown => "unknown",
        }
    }

    /// The format with this word; unknown for any other.
    pub(super) fn from_str(word: &str) -> Self {
        let all =
            [Self::Safetensors, Self::Gguf, Self::TorchZip, Self::Pickle, Self::Hdf5, Self::Onnx];
        all.into_iter().find(|format| format.as_str() == word).unwrap_or_default()
    }

    /// Whether the format is used for nothing but weights, so that no name is needed.
    pub const fn is_weights_only(self) -> bool {
        matches!(self, Self::Safetensors | Self::Gguf | Self::TorchZip)
    }

    /// Reads the start of a file.
    pub fn of(head: &[u8]) -> Self {
        /// Longest header the safetensors library reads, in bytes.
        const SAFETENSORS_HEADER_MAX: u64 = 100_000_000;
        if head.starts_with(b"GGUF") {
            return Self::Gguf;
        }
        if head.starts_with(b"\x89HDF\r\n\x1a\n") {
            return Self::Hdf5;
        }
        if let Some((length, rest)) = head.split_first_chunk::<8>()
            && u64::from_le_bytes(*length) < SAFETENSORS_HEADER_MAX
            && rest.starts_with(b"{\"")
        {
            return Self::Safetensors;
        }
        if head.starts_with(b"PK\x03\x04") {
            let is_torch = zip_first_name(head).is_some_and(|name| name.ends_with(b"data.pkl"));
            return if is_torch { Self::TorchZip } else { Self::Unknown };
        }
        match head {
            [0x80, 2..=5, ..] => Self::Pickle,
            // ModelProto: field 1 (ir_version) as a small varint, then one of fields 2 to 8.
            [0x08, 1..=20, 0x12 | 0x1a | 0x22 | 0x2a | 0x32 | 0x3a | 0x42, ..] => Self::Onnx,
            _ => Self::Unknown,
        }
    }
}

/// Extensions that weights share with everything else: build caches, firmware, disk images.
const GENERIC_EXTENSIONS: &[&str] = &["bin", "data"];

/// Whether the extension of a path alone says nothing of weights.
pub(super) fn is_generic_name(path: &str) -> bool {
    let extension = file_name(path).rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|extension| {
        GENERIC_EXTENSIONS.iter().any(|generic| extension.eq_ignore_ascii_case(generic))
    })
}

/// Name of the first entry of a zip (APPNOTE 4.3.7), as far as it was read.
fn zip_first_name(head: &[u8]) -> Option<&[u8]> {
    let length = usize::from(u16::from_le_bytes([*head.get(26)?, *head.get(27)?]));
    head.get(30..30 + length)
}

/// Extensions by class.
#[derive(Clone, Debug, Default)]
pub(super) struct Classes {
    by_extension: HashMap<Extension, FileClass, DefaultHashBuilder>,
}

impl Classes {
    /// Where an extension stands in several classes, the first of weights, archive, secret holds.
    pub(super) fn new(names: &NameClasses) -> Self {
        let NameClasses { weights, archive, secret } = names;
        let mut by_extension = HashMap::default();
        for (list, class) in [
            (secret, FileClass::Secret),
            (archive, FileClass::Archive),
            (weights, FileClass::Weights),
        ] {
            for key in list.iter().filter_map(|item| Extension::new(item.as_bytes())) {
                by_extension.insert(key, class);
            }
        }
        Self { by_extension }
    }

    /// The class of a path by the extension of its last part. Without allocation.
    pub(super) fn of(&self, path: &str) -> FileClass {
        let Some((stem, extension)) = file_name(path).rsplit_once('.') else {
            return FileClass::None;
        };
        let key = Extension::new(extension.as_bytes()).filter(|_| !stem.is_empty());
        key.and_then(|key| self.by_extension.get(&key)).copied().unwrap_or_default()
    }
}

/// Last part of a path.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The model a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelName<'p> {
    /// What its files have in common: a directory, or the file itself.
    pub(super) root: &'p str,
    /// What a person would call it.
    pub(super) name: String,
}

/// Directory names that say nothing about the model inside.
const GENERIC: &[&str] = &[
    "",
    "models",
    "model",
    "weights",
    "checkpoints",
    "checkpoint",
    "ckpt",
    "ckpts",
    "blobs",
    "snapshots",
    "hub",
    "tmp",
    "data",
    "downloads",
    "home",
    "root",
    "mnt",
    "opt",
    "srv",
    "lib",
];

/// Names the model of a weight file: the repository in a Hugging Face cache, else the directory,
/// else (where the directory has no name of its own) the file.
pub(super) fn model_of(path: &str) -> ModelName<'_> {
    let mut end = 0;
    for part in path.split('/') {
        end += part.len();
        if let Some(repository) = part.strip_prefix("models--") {
            return ModelName { root: &path[..end], name: repository.replace("--", "/") };
        }
        end += 1;
    }
    let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = file_name(directory);
    if GENERIC.contains(&parent) {
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let name = strip_shard(stem);
        // Shards of one model in a directory without a name share the stem.
        let root = &path[..path.len() - (file.len() - name.len())];
        return ModelName { root, name: name.to_owned() };
    }
    ModelName { root: directory, name: parent.to_owned() }
}

/// `x` of `x-00001-of-00003`.
fn strip_shard(stem: &str) -> &str {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let strip = || {
        let (front, of) = stem.rsplit_once("-of-")?;
        let (front, number) = front.rsplit_once('-')?;
        (is_number(number) && is_number(of) && !front.is_empty()).then_some(front)
    };
    strip().unwrap_or(stem)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn formats_are_told_by_content() {
        let mut safetensors = 321_u64.to_le_bytes().to_vec();
        safetensors.extend(b"{\"__metadata__\":");
        let mut torch = b"PK\x03\x04".to_vec();
        torch.resize(26, 0);
        torch.extend([16, 0, 0, 0]);
        torch.extend(b"archive/data.pkl");
        let mut jar = torch.clone();
        jar.truncate(30);
        jar.extend(b"META-INF/MANIFES");
        for (head, format) in [
            (safetensors.as_slice(), Format::Safetensors),
            (b"GGUF\x03\0\0\0", Format::Gguf),
            (&torch, Format::TorchZip),
            (&jar, Format::Unknown),
            (b"\x80\x02\x8a\x0a\x6c", Format::Pickle),
            (b"\x89HDF\r\n\x1a\n", Format::Hdf5),
            (b"\x08\x07\x12\x07pytorch", Format::Onnx),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff{\"", Format::Unknown),
            (b"#!/bin/sh\n", Format::Unknown),
            (b"", Format::Unknown),
        ] {
            assert_eq!(Format::of(head), format, "{head:?}");
        }
    }

    #[test]
    fn models_are_named_as_people_name_them() {
        for (path, root, name) in [
            (
                "/models/llama-70b/model-00001-of-00030.safetensors",
                "/models/llama-70b",
                "llama-70b",
            ),
            ("/models/phi.gguf", "/models/phi", "phi"),
            ("/models/phi-00001-of-00002.gguf", "/models/phi", "phi"),
            (
                "/home/ml/.cache/huggingface/hub/models--org--name/blobs/0a1b",
                "/home/ml/.cache/huggingface/hub/models--org--name",
                "org/name",
            ),
            ("/mnt/run7/ckpt/step.pt", "/mnt/run7/ckpt/step", "step"),
            ("x.pt", "x", "x"),
        ] {
            let model = model_of(path);
            assert_eq!((model.root, model.name.as_str()), (root, name), "{path}");
        }
    }

    #[test]
    fn classes_ignore_case_and_hidden_names() {
        let classes = Classes::new(&NameClasses::default());
        assert_eq!(classes.of("/a/M.SafeTensors"), FileClass::Weights);
        assert_eq!(classes.of("/a/x.tar"), FileClass::Archive);
        assert_eq!(classes.of("/a/.key"), FileClass::None);
        assert_eq!(classes.of("/a.pt/readme"), FileClass::None);
    }

    proptest! {
        #[test]
        fn any_path_and_head_are_read(
            path in "\\PC{0,60}", head in prop::collection::vec(any::<u8>(), 0..130),
        ) {
            let model = model_of(&path);
            prop_assert!(path.starts_with(model.root));
            let _ = (Format::of(&head), Classes::new(&NameClasses::default()).of(&path));
        }
    }
}
