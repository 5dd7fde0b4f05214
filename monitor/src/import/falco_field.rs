//! What a test of a Falco field is here. What has no counterpart is refused by name.

use std::collections::BTreeSet;

use super::expression::Test;
use super::quoted;

/// A converted part of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cel {
    True,
    False,
    Text(String),
}

/// What a condition looks at, as far as it was found out.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    /// Kinds of event.
    pub(super) found: BTreeSet<&'static str>,
    /// System calls beside others that have no event here.
    pub(super) left_out: BTreeSet<String>,
}

/// System calls, the kind of event they are here, and what else must hold.
const CALLS: &[(&[&str], &str, &str)] = &[
    (&["execve", "execveat"], "exec", ""),
    (&["open", "openat", "openat2", "open_by_handle_at", "creat"], "file_open", ""),
    (&["connect"], "flow", "net.phase == \"start\" && net.direction == \"egress\""),
    (&["accept", "accept4"], "flow", "net.direction == \"ingress\""),
    (&["sendto", "sendmsg", "sendmmsg"], "flow", "net.bytes_out > 0"),
    (&["socket"], "socket", ""),
    (&["clone", "clone3", "fork", "vfork"], "fork", ""),
    (&["procexit"], "exit", ""),
    (&["dup", "dup2", "dup3"], "stdio", ""),
    (&["ptrace"], "memory_access", "access.method == \"ptrace\""),
    (&["process_vm_readv"], "memory_access", "access.method == \"process_vm_readv\""),
    (&["process_vm_writev"], "memory_access", "access.method == \"process_vm_writev\""),
    (&["init_module", "finit_module"], "tamper", "tamper.op == \"module_load\""),
    (&["bpf"], "tamper", "tamper.op == \"bpf_load\""),
    (&["rename", "renameat", "renameat2"], "file_change", "file.op == \"rename\""),
    (&["unlink", "unlinkat"], "file_change", "file.op == \"unlink\""),
    (&["link", "linkat"], "file_change", "file.op == \"link\""),
    (&["unshare"], "namespace", "ns.op == \"unshare\""),
    (&["setns"], "namespace", "ns.op == \"setns\""),
    (&["mount"], "namespace", "ns.op == \"mount\""),
    (&["io_uring_setup"], "async_io", "async.op == \"io_uring_setup\""),
];

/// Text fields that mean the same here.
const TEXTS: &[(&str, &str)] = &[
    ("proc.name", "proc.name"),
    ("proc.exepath", "proc.exe"),
    ("proc.cmdline", "proc.cmdline"),
    ("proc.args", "proc.cmdline"),
    ("proc.exe", "proc.args[0]"),
    ("proc.cwd", "proc.cwd"),
    ("proc.pname", "proc.parent.name"),
    ("proc.pexepath", "proc.parent.exe"),
    ("fd.name", "file.path"),
    ("fd.filename", "file.name"),
    ("evt.arg.path", "file.path"),
    ("fd.l4proto", "net.proto"),
    ("fd.sip.name", "net.dst.name"),
    ("fd.rip.name", "net.dst.name"),
    ("k8s.ns.name", "k8s.ns.name"),
    ("k8s.pod.name", "k8s.pod.name"),
    ("container.id", "container.id"),
];
const INTS: &[(&str, &str)] = &[
    ("proc.pid", "proc.pid"),
    ("proc.ppid", "proc.parent.pid"),
    ("user.uid", "proc.uid"),
    ("fd.sport", "net.dst.port"),
    ("fd.rport", "net.dst.port"),
    ("fd.lport", "net.src.port"),
    ("evt.arg.uid", "proc.uid"),
];
const IPS: &[(&str, &str)] =
    &[("fd.sip", "net.dst.ip"), ("fd.rip", "net.dst.ip"), ("fd.lip", "net.src.ip")];

/// Converts one test.
pub(super) fn test(test: &Test, kinds: &mut Kinds) -> Result<Cel, String> {
    if let Some(cel) = meta(test, kinds)? {
        return Ok(cel);
    }
    let field = test.field.as_str();
    let find = |table: &[(&str, &'static str)]| {
        table.iter().find(|(theirs, _)| *theirs == field).map(|(_, ours)| *ours)
    };
    if let Some(name) = find(INTS) {
        return numbers(name, test);
    }
    if let Some(name) = find(IPS) {
        return addresses(name, test);
    }
    if let Some(name) = find(TEXTS) {
        return texts(name, test).map(Cel::Text);
    }
    if field == "proc.aname" || field.starts_with("proc.aname[") {
        let parts = test.values.iter().map(|value| format!("{} in proc.ancestors", quoted(value)));
        return match test.operator.as_str() {
            "=" | "==" | "in" | "intersects" => Ok(Cel::Text(joined(parts, "||"))),
            "!=" => Ok(Cel::Text(format!("!({})", joined(parts, "||")))),
            other => Err(format!("`{field} {other}` has no counterpart")),
        };
    }
    if field == "fd.directory" {
        let parts = test.values.iter().map(|value| {
            let dir = value.trim_end_matches('/');
            format!("glob(file.path, {})", quoted(&format!("{dir}/*")))
        });
        return match test.operator.as_str() {
            "=" | "==" | "in" => Ok(Cel::Text(joined(parts, "||"))),
            "startswith" => {
                let starts = test.values.iter();
                let starts = starts.map(|value| format!("file.path.startsWith({})", quoted(value)));
                Ok(Cel::Text(joined(starts, "||")))
            }
            other => Err(format!("`fd.directory {other}` has no counterpart")),
        };
    }
    Err(format!("the field `{field}` has no counterpart"))
}

/// The field that a test asks for, where it may be missing.
pub(super) fn asked(test: &Test) -> Option<&'static str> {
    let tables = TEXTS.iter().chain(INTS).chain(IPS);
    let ours = tables.clone().find(|(theirs, _)| *theirs == test.field).map(|(_, ours)| *ours);
    ours.filter(|name| !name.ends_with(']') && test.operator != "exists")
}

/// Tests of the event itself, and of what is always so here.
fn meta(test: &Test, kinds: &mut Kinds) -> Result<Option<Cel>, String> {
    let one = test.values.first().map_or("", String::as_str);
    let is_equal = matches!(test.operator.as_str(), "=" | "==" | "in");
    let truth = |want: &str| if (one == want) == is_equal { Cel::True } else { Cel::False };
    Ok(Some(match (test.field.as_str(), one) {
        ("evt.type" | "syscall.type", _) if is_equal => calls(&test.values, kinds)?,
        ("evt.type" | "syscall.type", _) => {
            return Err("a negated `evt.type` has no counterpart".to_owned());
        }
        // Here an event is what a call did; its entry is not seen.
        ("evt.dir", _) => truth("<"),
        ("evt.num", "0") => match test.operator.as_str() {
            "=" | "==" | "<" => Cel::False,
            _ => Cel::True,
        },
        ("fd.num" | "evt.rawres" | "evt.res", _) => Cel::True,
        ("fd.typechar", "f" | "4" | "6") | ("fd.type", "ipv4" | "ipv6" | "file") if is_equal => {
            Cel::True
        }
        ("evt.is_open_read", "true") => Cel::Text("file.read".to_owned()),
        ("evt.is_open_write", "true") => Cel::Text("file.write".to_owned()),
        ("proc.is_exe_from_memfd", "true") => Cel::Text("proc.exe_memfd".to_owned()),
        ("user.name", "root") if is_equal => Cel::Text("proc.uid == 0".to_owned()),
        ("user.name", "root") if test.operator == "!=" => Cel::Text("proc.uid != 0".to_owned()),
        ("container.id", "host") => {
            Cel::Text(if is_equal { "!has(container.id)" } else { "has(container.id)" }.to_owned())
        }
        _ => return Ok(None),
    }))
}

fn calls(names: &[String], kinds: &mut Kinds) -> Result<Cel, String> {
    let mut parts: Vec<String> = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        let row = CALLS.iter().find(|(calls, ..)| calls.contains(&name.as_str()));
        let Some((_, kind, also)) = row else {
            unknown.push(name.as_str());
            continue;
        };
        kinds.found.insert(kind);
        let part = match *also {
            "" => format!("evt.kind == \"{kind}\""),
            also => format!("(evt.kind == \"{kind}\" && {also})"),
        };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    if parts.is_empty() {
        return Err(format!("there is no event for the system call {}", unknown.join(", ")));
    }
    kinds.left_out.extend(unknown.into_iter().map(str::to_owned));
    Ok(Cel::Text(joined(parts.into_iter(), "||")))
}

fn numbers(name: &str, test: &Test) -> Result<Cel, String> {
    let number = |value: &String| {
        value.parse::<i64>().map_err(|_| format!("`{value}` is not a number for `{}`", test.field))
    };
    let all: Vec<i64> = test.values.iter().map(number).collect::<Result<_, _>>()?;
    let list: Vec<String> = all.iter().map(ToString::to_string).collect();
    Ok(Cel::Text(match test.operator.as_str() {
        "in" => format!("{name} in [{}]", list.join(", ")),
        "=" => format!("{name} == {}", list.join("")),
        "exists" => format!("has({name})"),
        sign @ ("==" | "!=" | "<" | "<=" | ">" | ">=") => {
            format!("{name} {sign} {}", list.join(""))
        }
        other => return Err(format!("`{} {other}` has no counterpart", test.field)),
    }))
}

fn addresses(name: &str, test: &Test) -> Result<Cel, String> {
    let list: Vec<String> = test.values.iter().map(|value| quoted(value)).collect();
    let within = format!("{name} in cidr({})", list.join(", "));
    Ok(match test.operator.as_str() {
        "=" | "==" | "in" => Cel::Text(within),
        "!=" => Cel::Text(format!("!({within})")),
        "exists" => Cel::Text(format!("has({name})")),
        other => return Err(format!("`{} {other}` has no counterpart", test.field)),
    })
}

fn texts(name: &str, test: &Test) -> Result<String, String> {
    let list: Vec<String> = test.values.iter().map(|value| quoted(value)).collect();
    let each =
        |method: &str| joined(list.iter().map(|value| format!("{name}.{method}({value})")), "||");
    Ok(match test.operator.as_str() {
        "exists" => format!("has({name})"),
        "in" => format!("{name} in [{}]", list.join(", ")),
        "=" | "==" => format!("{name} == {}", list.join("")),
        "!=" => format!("{name} != {}", list.join("")),
        "contains" => each("contains"),
        "startswith" => each("startsWith"),
        "endswith" => each("endsWith"),
        "icontains" => {
            let lower = test.values.iter().map(|value| quoted(&value.to_ascii_lowercase()));
            joined(lower.map(|value| format!("{name}.lowerAscii().contains({value})")), "||")
        }
        "glob" => joined(list.iter().map(|value| format!("glob({name}, {value})")), "||"),
        "regex" => each("matches"),
        "pmatch" => {
            let parts = test.values.iter().flat_map(|value| {
                let dir = value.trim_end_matches('/');
                [
                    format!("glob({name}, {})", quoted(dir)),
                    format!("glob({name}, {})", quoted(&format!("{dir}/**"))),
                ]
            });
            joined(parts, "||")
        }
        other => return Err(format!("`{} {other}` has no counterpart", test.field)),
    })
}

/// Parts joined by an operator, in brackets when there are several.
pub(super) fn joined(parts: impl Iterator<Item = String>, operator: &str) -> String {
    let parts: Vec<String> = parts.collect();
    match parts.as_slice() {
        [] => "false".to_owned(),
        [one] => one.clone(),
        _ => format!("({})", parts.join(&format!(" {operator} "))),
    }
}
