//! Offsets of the running kernel, for the list in `monitor_common`.

use monitor_common::{OFFSET_ABSENT, OFFSETS, Offset, Place};

use super::btf::{Btf, Member, MemberError};

/// One field as the running kernel has it.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The field.
    pub offset: &'static Offset,
    /// Where it is, or why it is of no use.
    pub found: Result<u32, String>,
    /// The struct's id in the kernel's type information.
    pub strukt: Option<u32>,
}

impl Resolved {
    /// What is handed to the kernel side.
    pub fn place(&self) -> Place {
        Place {
            offset: *self.found.as_ref().unwrap_or(&OFFSET_ABSENT),
            strukt: self.strukt.unwrap_or(0),
        }
    }
}

/// Resolves every field. A field that is missing or has another width turns off the sensors that
/// need it, never the daemon.
pub fn resolve(btf: &Btf) -> Vec<Resolved> {
    let one = |offset: &'static Offset| Resolved {
        offset,
        found: resolve_one(btf, offset),
        strukt: btf.struct_id(offset.strukt),
    };
    OFFSETS.iter().map(one).collect()
}

fn resolve_one(btf: &Btf, offset: &Offset) -> Result<u32, String> {
    let mut first: Option<MemberError> = None;
    for path in offset.path.split('|') {
        match btf.member(offset.strukt, path) {
            Ok(Member { width, .. }) if offset.width != 0 && width != offset.width => {
                return Err(format!(
                    "{}.{path} is {width} bytes wide, expected {}",
                    offset.strukt, offset.width
                ));
            }
            Ok(member) => return Ok(member.offset),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.map_or_else(|| "no path given".to_owned(), |error| error.to_string()))
}

/// The fields a sensor needs and does not have, in words.
pub fn missing_for(resolved: &[Resolved], sensor: &str) -> Vec<String> {
    resolved
        .iter()
        .filter(|field| field.offset.sensors.contains(&sensor))
        .filter_map(|field| field.found.as_ref().err().cloned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_kernel_has_every_field_in_its_width() {
        let btf = Btf::from_kernel().expect("the test machine has BTF");
        // A processor has its registers by one of two names.
        let fields = resolve(&btf).into_iter().filter(|field| field.offset.strukt != "pt_regs");
        let lacking: Vec<String> = fields.filter_map(|field| field.found.err()).collect();
        assert!(lacking.is_empty(), "{lacking:?}");
    }

    #[test]
    fn missing_field_names_the_sensors_it_turns_off() {
        let offset = &OFFSETS[0];
        let resolved =
            [Resolved { offset, found: Err("struct a has no member b".into()), strukt: None }];
        assert_eq!(resolved[0].place(), Place { offset: OFFSET_ABSENT, strukt: 0 });
        assert_eq!(missing_for(&resolved, offset.sensors[0]).len(), 1);
        assert!(missing_for(&resolved, "no_such_sensor").is_empty());
    }
}
