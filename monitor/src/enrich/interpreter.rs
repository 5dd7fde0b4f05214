//! What an interpreter runs: the script behind `python3 train.py`, told from the arguments. Pure.

use super::content::file_name;

/// Interpreters and how they take options.
struct Interpreter {
    /// Names of executables begin so; a version may follow.
    names: &'static [&'static str],
    /// Options that bring the program with them: there is no script.
    inline: &'static [&'static str],
    /// Options whose value is the next argument.
    valued: &'static [&'static str],
    /// The option that names a module instead of a script.
    module: Option<&'static str>,
}

const INTERPRETERS: &[Interpreter] = &[
    Interpreter {
        names: &["python", "pypy"],
        inline: &["-c", "-"],
        valued: &["-W", "-X", "--check-hash-based-pycs"],
        module: Some("-m"),
    },
    Interpreter {
        names: &["bash", "sh", "dash", "zsh", "ksh", "ash"],
        inline: &["-c", "-s", "-"],
        valued: &["-o", "+o", "-O", "+O", "--rcfile", "--init-file"],
        module: None,
    },
    Interpreter { names: &["perl"], inline: &["-e", "-E", "-"], valued: &["-I"], module: None },
    Interpreter {
        names: &["ruby"],
        inline: &["-e", "-"],
        valued: &["-r", "-I", "-C", "-E"],
        module: None,
    },
    Interpreter {
        names: &["node", "nodejs"],
        inline: &["-e", "-p", "-pe", "--eval", "--print", "-"],
        valued: &["-r", "--require", "--import", "--loader", "-C", "--conditions"],
        module: None,
    },
    Interpreter {
        names: &["php"],
        inline: &["-r", "-R", "-"],
        valued: &["-c", "-d", "-z"],
        module: None,
    },
    Interpreter { names: &["lua", "luajit"], inline: &["-e", "-"], valued: &["-l"], module: None },
    Interpreter { names: &["Rscript"], inline: &["-e"], valued: &[], module: None },
    Interpreter {
        names: &["julia"],
        inline: &["-e", "-E", "--eval", "--print"],
        valued: &["-L", "-J", "-p", "-t", "-C", "-O"],
        module: None,
    },
    Interpreter { names: &["tclsh", "wish"], inline: &[], valued: &[], module: None },
];

/// Names by which one executable is several interpreters.
const MULTICALL: &[&str] = &["busybox", "toybox"];

/// The script that `exe` runs with `args`, as a path from the root; `module:NAME` for
/// `python -m NAME`; nothing for what is no interpreter, for a program in the arguments and for one
/// from standard input.
pub(super) fn script(exe: &str, args: &[String], cwd: &str) -> Option<String> {
    let mut name = file_name(exe);
    if MULTICALL.contains(&name) {
        name = file_name(args.first()?).trim_start_matches('-');
    }
    let interpreter = INTERPRETERS.iter().find(|known| known.is(name))?;
    let mut rest = args.iter().skip(1).map(String::as_str);
    while let Some(arg) = rest.next() {
        if interpreter.module == Some(arg) {
            return rest.next().map(|module| format!("module:{module}"));
        }
        if let Some(module) = interpreter.module.and_then(|option| arg.strip_prefix(option)) {
            return Some(format!("module:{module}"));
        }
        if interpreter.inline.contains(&arg) || interpreter.holds_inline(arg) {
            return None;
        }
        if arg == "--" {
            return rest.next().map(|path| absolute(path, cwd));
        }
        if interpreter.valued.contains(&arg) {
            rest.next()?;
        } else if !arg.starts_with('-') && !arg.starts_with('+') {
            return (!arg.is_empty()).then(|| absolute(arg, cwd));
        }
    }
    None
}

impl Interpreter {
    /// Whether an executable of this name is it: the name alone, or with a version behind it.
    fn is(&self, name: &str) -> bool {
        self.names.iter().any(|known| {
            name.strip_prefix(known).is_some_and(|rest| {
                rest.chars().all(|char| char.is_ascii_digit() || matches!(char, '.' | '-'))
            })
        })
    }

    /// Whether short options written together hold one that brings the program (`bash -lc`).
    fn holds_inline(&self, arg: &str) -> bool {
        let Some(letters) = arg.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else {
            return false;
        };
        if !letters.chars().all(|letter| letter.is_ascii_alphabetic()) {
            return false;
        }
        // A long word is a value written behind its option, not a row of options.
        letters.len() <= 4
            && self.inline.iter().any(|option| {
                option.len() == 2 && option.starts_with('-') && letters.ends_with(&option[1..])
            })
    }
}

/// A path from the root, without `.` and `..`: by words alone, for the place may be gone.
fn absolute(path: &str, cwd: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { cwd };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(exe: &str, line: &str) -> Option<String> {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        script(exe, &args, "/srv/run")
    }

    #[test]
    fn the_script_is_told_and_not_the_interpreter() {
        for (exe, line, expected) in [
            ("/usr/bin/python3.11", "python3 train.py --lr 1", Some("/srv/run/train.py")),
            ("/usr/bin/python3.11", "python -u -X dev ../x/./t.py", Some("/srv/x/t.py")),
            (
                "/opt/conda/bin/python",
                "python -m torch.distributed.run x",
                Some("module:torch.distributed.run"),
            ),
            ("/usr/bin/python3", "python3 -c print(1) train.py", None),
            ("/usr/bin/python3", "python3 -", None),
            ("/usr/bin/python3", "python3", None),
            ("/usr/bin/bash", "bash -e /opt/run.sh", Some("/opt/run.sh")),
            ("/usr/bin/bash", "bash -lc /opt/run.sh", None),
            ("/usr/bin/bash", "bash -o pipefail run.sh", Some("/srv/run/run.sh")),
            ("/bin/busybox", "sh start.sh", Some("/srv/run/start.sh")),
            ("/usr/bin/perl", "perl -e print", None),
            ("/usr/bin/node", "node --require ./hook.js app.js", Some("/srv/run/app.js")),
            ("/usr/bin/shred", "shred x", None),
            ("/usr/bin/curl", "curl -T x", None),
        ] {
            assert_eq!(of(exe, line).as_deref(), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_arguments_are_read(args in prop::collection::vec("\\PC{0,12}", 0..6)) {
            for exe in ["/bin/sh", "/usr/bin/python3", "/bin/busybox", ""] {
                let script = script(exe, &args, "/a");
                prop_assert!(script.is_none_or(|script| script.starts_with(['/', 'm'])));
            }
        }
    }
}
