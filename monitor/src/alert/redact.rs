//! Takes secrets out of arguments and sentences. Pure, total, and it errs on the side of hiding:
//! a hidden argument costs a look at the host, a leaked key costs the key.
//!
//! What is hidden: the value after a flag, variable, header or JSON key whose last word names a
//! secret (`--hf-token`, `WANDB_API_KEY=`, `X-Api-Key:`); `Authorization` headers and what follows
//! `Bearer`; user and password in URLs; tokens with a known prefix or the form of a JWT; long
//! values of high entropy after a flag that ends in `key`, `auth`, `sig` or the like.

mod scan;

pub(super) use scan::scan;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Last words of a name that names a secret.
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "pass",
    "pwd",
    "passphrase",
    "secret",
    "secrets",
    "token",
    "credential",
    "credentials",
    "authorization",
    "bearer",
    "cookie",
    "pat",
];
/// Ends of such a last word, where somebody wrote the words together (`--clientsecret`).
const SECRET_ENDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
];
/// Last two words of a name that names a secret.
const SECRET_PAIRS: &[(&str, &str)] = &[
    ("api", "key"),
    ("access", "key"),
    ("account", "key"),
    ("secret", "key"),
    ("private", "key"),
    ("license", "key"),
    ("signing", "key"),
    ("encryption", "key"),
    ("storage", "key"),
    ("client", "key"),
];
/// Words before `token` that speak of a vocabulary, not of access.
const VOCABULARY_WORDS: &[&str] = &[
    "bos", "eos", "pad", "unk", "mask", "sep", "cls", "stop", "image", "special", "per", "start",
    "end", "prompt", "next", "first", "each", "max", "min", "n", "num",
];
/// Last words of a name whose value is hidden only where it looks like a key.
const KEYLIKE_WORDS: &[&str] =
    &["key", "keys", "auth", "sig", "signature", "sas", "session", "hmac", "seed"];
/// Prefixes of tokens that can be known by their form alone.
const TOKEN_PREFIXES: &[&str] = &[
    "hf_",
    "sk-",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "npm_",
    "nvapi-",
    "pypi-",
    "ya29.",
    "dop_v1_",
    "r8_",
    "gsk_",
    "whsec_",
    "shpat_",
    "SG.",
];
/// Shortest token that a prefix alone gives away, prefix included.
const TOKEN_CHARS_MIN: usize = 16;
/// Shortest value that is weighed by its entropy.
const ENTROPY_CHARS_MIN: usize = 20;
/// Entropy in bits per character above which a value is taken for a key. English words joined by
/// dashes stay under it, random hex digits are above it.
const ENTROPY_BITS_MIN: f64 = 3.2;

/// The arguments of a process, `argv[0]` first, without secrets. Same number of arguments.
pub fn redact_args(args: &[String]) -> Vec<String> {
    let program = args.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path));
    let mut redacted = Vec::with_capacity(args.len());
    let mut previous = Expect::Nothing;
    for arg in args {
        let hidden = match previous {
            Expect::Secret if !arg.starts_with("--") => Some(REDACTED.to_owned()),
            Expect::UserInfo => arg.split_once(':').map(|(user, _)| format!("{user}:{REDACTED}")),
            Expect::Keylike if is_high_entropy(arg) => Some(REDACTED.to_owned()),
            Expect::Nothing | Expect::Secret | Expect::Keylike => None,
        };
        previous = match hidden {
            Some(_) => Expect::Nothing,
            None => expect_after(program, arg),
        };
        redacted.push(hidden.unwrap_or_else(|| redact_arg(program, arg)));
    }
    redacted
}

/// A sentence or command line without secrets.
pub fn redact_text(text: &str) -> String {
    scan(text)
}

/// What an argument says about the next one.
enum Expect {
    Nothing,
    Secret,
    Keylike,
    UserInfo,
}

fn expect_after(program: &str, arg: &str) -> Expect {
    match (program, arg) {
        ("sshpass", "-p") => return Expect::Secret,
        ("curl" | "wget" | "http" | "https", "-u" | "-U" | "-a" | "--user" | "--proxy-user") => {
            return Expect::UserInfo;
        }
        _ => {}
    }
    if !arg.starts_with('-') || arg.contains(['=', ' ']) {
        return Expect::Nothing;
    }
    match name_kind(arg) {
        NameKind::Secret => Expect::Secret,
        NameKind::Keylike => Expect::Keylike,
        NameKind::Plain => Expect::Nothing,
    }
}

/// One argument whose whole rest is the value, spaces and quotes included.
fn redact_arg(program: &str, arg: &str) -> String {
    let attached = match program {
        "mysql" | "mysqldump" | "sshpass" => "-p",
        "curl" => "-u",
        _ => "",
    };
    if !attached.is_empty()
        && arg.len() > attached.len()
        && arg.starts_with(attached)
        && !arg.starts_with("--")
    {
        return format!("{attached}{REDACTED}");
    }
    if let Some(at) = arg.find(['=', ':']) {
        let (name, value) = (&arg[..at], &arg[at + 1..]);
        let is_name = !name.is_empty() && name.chars().all(is_name_char);
        if is_name && name_kind(name) == NameKind::Secret && !value.is_empty() {
            return format!("{}{REDACTED}", &arg[..=at]);
        }
    }
    scan(arg)
}

/// What the name of a flag, variable, header or key says of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameKind {
    Plain,
    Keylike,
    Secret,
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn name_kind(name: &str) -> NameKind {
    let LastWords { last, before } = last_words(name);
    let is_in = |words: &[&str], word: &str| words.iter().any(|one| one.eq_ignore_ascii_case(word));
    let is_last = |word: &str| last.eq_ignore_ascii_case(word);
    if is_last("pwd") && before.is_empty() {
        return NameKind::Plain;
    }
    if is_last("pass") && before.is_empty() && !name.starts_with('-') {
        return NameKind::Plain;
    }
    if is_last("token") && is_in(VOCABULARY_WORDS, before) {
        return NameKind::Plain;
    }
    if SECRET_ENDS.iter().any(|end| ends_with(last, end)) || is_in(SECRET_WORDS, last) {
        return NameKind::Secret;
    }
    if SECRET_PAIRS.iter().any(|(a, b)| before.eq_ignore_ascii_case(a) && is_last(b)) {
        return NameKind::Secret;
    }
    if is_in(KEYLIKE_WORDS, last) { NameKind::Keylike } else { NameKind::Plain }
}

fn ends_with(word: &str, end: &str) -> bool {
    let from = word.len().checked_sub(end.len());
    from.and_then(|from| word.get(from..)).is_some_and(|tail| tail.eq_ignore_ascii_case(end))
}

/// The last word of a name and the one before it; empty for none.
#[derive(Debug, Default, PartialEq, Eq)]
struct LastWords<'a> {
    last: &'a str,
    before: &'a str,
}

/// `--hfApi_TOKEN` → `Api`, `TOKEN`: an alert asks this of each word of each argument of a whole
/// ancestry, so nothing is copied.
fn last_words(name: &str) -> LastWords<'_> {
    let (mut last, mut before) = (0..0, 0..0);
    let mut is_new = true;
    let mut was_lower = false;
    for (at, c) in name.char_indices() {
        if !c.is_ascii_alphanumeric() {
            is_new = true;
            continue;
        }
        if is_new || (was_lower && c.is_ascii_uppercase()) {
            before = std::mem::replace(&mut last, at..at);
        }
        last.end = at + 1;
        is_new = false;
        was_lower = c.is_ascii_lowercase();
    }
    LastWords { last: &name[last], before: &name[before] }
}

/// Whether a run of name characters is a token by its form.
fn is_token(run: &str) -> bool {
    if run.len() < TOKEN_CHARS_MIN {
        return false;
    }
    let is_jwt = run.starts_with("eyJ") && run.split('.').count() >= 2;
    let rest = TOKEN_PREFIXES.iter().find_map(|prefix| run.strip_prefix(prefix));
    let is_prefixed = rest.is_some_and(|rest| {
        let digits = rest.chars().filter(char::is_ascii_digit).count();
        let uppers = rest.chars().filter(char::is_ascii_uppercase).count();
        digits + uppers > 0
    });
    is_jwt || is_prefixed
}

fn is_high_entropy(value: &str) -> bool {
    let count = value.chars().count();
    if count < ENTROPY_CHARS_MIN || value.starts_with(['/', '.', '~']) || value.contains(' ') {
        return false;
    }
    let mut counts = std::collections::BTreeMap::<char, u32>::new();
    for c in value.chars() {
        *counts.entry(c).or_default() += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "an argument is far shorter than 2^52")]
    let total = count as f64;
    let entropy: f64 = counts
        .values()
        .map(|count| {
            let share = f64::from(*count) / total;
            -share * share.log2()
        })
        .sum();
    entropy >= ENTROPY_BITS_MIN
}

#[cfg(test)]
mod tests;
