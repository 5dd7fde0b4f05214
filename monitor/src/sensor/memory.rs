//! What the maps take of the kernel's memory: computed for any number of CPUs, because a map with a
//! value for each CPU that is small on a desk may be large on a host.

use aya::Ebpf;
use aya::maps::{Map, MapData, MapType};

/// Bytes that all maps together may take on any host.
pub const MAP_BYTES_MAX: u64 = 64 << 20;

/// Bytes that the kernel keeps with an element of a hash map (`struct htab_elem`, kernel/bpf/
/// hashtab.c), and with a bucket of one (`struct bucket`).
const ELEMENT_BYTES: u64 = 48;
const BUCKET_BYTES: u64 = 16;
/// Pages beside a ring's data: its two positions and what the kernel keeps (kernel/bpf/ringbuf.c).
const RING_EXTRA_BYTES: u64 = 3 * 4096;

/// One map, as far as its memory goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapSize {
    /// Its name in the object.
    pub name: String,
    /// How it is laid out.
    pub layout: MapLayout,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Bytes of a value.
    pub value_bytes: u32,
    /// Entries; for a ring its bytes.
    pub entries: u32,
}

/// How a map is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapLayout {
    /// Values one after the other.
    Array,
    /// As above, for each CPU.
    PerCpuArray,
    /// Elements, made when the map is.
    Hash,
    /// As above, with a value for each CPU.
    PerCpuHash,
    /// A ring of bytes.
    Ring,
}

impl MapSize {
    /// Bytes on a host with this many CPUs.
    pub fn bytes(&self, cpus: u64) -> u64 {
        let round = |bytes: u32| u64::from(bytes).next_multiple_of(8);
        let (key, value) = (round(self.key_bytes), round(self.value_bytes));
        let entries = u64::from(self.entries);
        let buckets = entries.next_power_of_two() * BUCKET_BYTES;
        match self.layout {
            MapLayout::Array => entries * value,
            MapLayout::PerCpuArray => entries * (value * cpus + 8),
            // One more element for each CPU: what a program replaces in place (not LRU; counted
            // for both).
            MapLayout::Hash => (entries + cpus) * (ELEMENT_BYTES + key + value) + buckets,
            MapLayout::PerCpuHash => entries * (ELEMENT_BYTES + key + 8 + value * cpus) + buckets,
            MapLayout::Ring => entries + RING_EXTRA_BYTES,
        }
    }
}

/// Bytes of all maps on a host with this many CPUs.
pub fn total(maps: &[MapSize], cpus: u64) -> u64 {
    maps.iter().map(|map| map.bytes(cpus)).sum()
}

/// The maps of a loaded object.
pub(super) fn sizes(ebpf: &Ebpf) -> Vec<MapSize> {
    ebpf.maps().filter_map(|(name, map)| size(name, data(map)?)).collect()
}

fn size(name: &str, data: &MapData) -> Option<MapSize> {
    let info = data.info().ok()?;
    let layout = match info.map_type().ok()? {
        MapType::Array | MapType::ProgramArray => MapLayout::Array,
        MapType::PerCpuArray => MapLayout::PerCpuArray,
        MapType::PerCpuHash | MapType::LruPerCpuHash => MapLayout::PerCpuHash,
        MapType::RingBuf => MapLayout::Ring,
        _ => MapLayout::Hash,
    };
    Some(MapSize {
        name: name.to_owned(),
        layout,
        key_bytes: info.key_size(),
        value_bytes: info.value_size(),
        entries: info.max_entries(),
    })
}

/// What the kernel knows of a map; `None` for kinds that the object has none of.
pub(super) const fn data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::RingBuf(data)
        | Map::ProgramArray(data) => Some(data),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(layout: MapLayout, value_bytes: u32, entries: u32) -> MapSize {
        MapSize { name: "M".into(), layout, key_bytes: 4, value_bytes, entries }
    }

    #[test]
    fn a_value_for_each_cpu_grows_with_them_and_others_hardly_do() {
        assert_eq!(map(MapLayout::Array, 12, 10).bytes(192), 160);
        assert_eq!(map(MapLayout::PerCpuArray, 64, 2).bytes(192), 2 * (64 * 192 + 8));
        let hash = map(MapLayout::Hash, 8, 1000);
        assert_eq!(hash.bytes(2), 1002 * (48 + 8 + 8) + 1024 * 16);
        assert!(hash.bytes(192) - hash.bytes(2) < 16 << 10);
        assert_eq!(map(MapLayout::Ring, 0, 4096).bytes(192), 4 * 4096);
    }
}
