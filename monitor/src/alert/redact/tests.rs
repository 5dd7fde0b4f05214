use proptest::prelude::*;

use super::{LastWords, REDACTED, last_words, redact_args, redact_text};

fn args(line: &[&str]) -> Vec<String> {
    line.iter().map(|arg| (*arg).to_owned()).collect()
}

fn redacted(line: &[&str]) -> Vec<String> {
    redact_args(&args(line))
}

#[test]
fn words_end_at_other_characters_and_at_capitals() {
    for (name, before, last) in [
        ("--hfApi_TOKEN", "Api", "TOKEN"),
        ("X-Api-Key", "Api", "Key"),
        ("token", "", "token"),
        ("a.b.", "a", "b"),
        ("APIKey2", "", "APIKey2"),
        ("--", "", ""),
    ] {
        assert_eq!(last_words(name), LastWords { last, before }, "{name}");
    }
}

#[test]
fn the_usual_secrets_of_ai_hosts_are_hidden() {
    let secret = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345";
    for line in [
        vec!["env", "HF_TOKEN=hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345", "python", "t.py"],
        vec!["python", "t.py", "--hf-token", secret],
        vec!["python", "t.py", "--hf_token=hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345"],
        vec!["huggingface-cli", "login", secret],
        vec!["sh", "-c", "export HF_TOKEN=hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345; python t.py"],
        vec!["curl", "-H", "Authorization: Bearer hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345", "u"],
        vec!["curl", "https://u:hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345@h/x"],
        vec!["curl", "https://h/x?token=hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345&a=b"],
    ] {
        let text = redacted(&line).join(" ");
        assert!(!text.contains("AbCdEf"), "{text}");
        assert!(text.contains(REDACTED), "{text}");
    }
}

#[test]
fn each_form_keeps_what_is_not_secret() {
    for (before, after) in [
        ("WANDB_API_KEY=abc python t.py", "WANDB_API_KEY=[redacted] python t.py"),
        ("OPENAI_API_KEY=\"a b c\" x", "OPENAI_API_KEY=[redacted] x"),
        ("AWS_SECRET_ACCESS_KEY=a/b+c x", "AWS_SECRET_ACCESS_KEY=[redacted] x"),
        ("aws --profile AKIAIOSFODNN7EXAMPLE s3", "aws --profile [redacted] s3"),
        ("tool --password hunter2 --verbose", "tool --password [redacted] --verbose"),
        ("tool --token=abc --verbose", "tool --token=[redacted] --verbose"),
        (
            "curl -H \"Authorization: Bearer abc.def\" https://evil.example/x",
            "curl -H \"Authorization: Bearer [redacted]\" https://evil.example/x",
        ),
        ("curl -H 'X-Api-Key: abc def' https://e", "curl -H 'X-Api-Key: [redacted]' https://e"),
        ("postgres://user:pa/ss@db:5432/x", "postgres://[redacted]@db:5432/x"),
        ("https://user:p@ss@db:5432/x", "https://[redacted]@db:5432/x"),
        ("{\"password\": \"a b\", \"user\": \"u\"}", "{\"password\": [redacted], \"user\": \"u\"}"),
        ("x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln y", "x [redacted] y"),
        ("sign --key 9f86d081884c7d659a2feaa0c55ad015", "sign --key [redacted]"),
    ] {
        assert_eq!(redact_text(before), after);
    }
}

#[test]
fn what_is_no_secret_stays() {
    for text in [
        "python train.py --tokenizer meta-llama/Llama-3-8B --max-tokens 4096",
        "vllm serve --eos-token </s> --pad_token=<pad> --max-num-batched-tokens=8192",
        "curl https://host.example:8443/path@v1?x=y",
        "ssh -i /home/ml/.ssh/id_ed25519 --key /etc/tls/server.key host",
        "PWD=/srv/jobs python t.py --sort-key loss",
        "train-0 sent 14.2 GiB to evil.example after reading llama-70b",
        "the password was not asked for",
        "http://[2001:db8::1]:8080/x@y",
    ] {
        assert_eq!(redact_text(text), text);
    }
}

#[test]
fn the_argument_after_a_secret_flag_is_hidden_whole() {
    let after = redacted(&["tool", "--password", "two words = \"one\" secret", "--next", "v"]);
    assert_eq!(after, args(&["tool", "--password", REDACTED, "--next", "v"]));
    let after = redacted(&["tool", "--password=two words; one secret", "v"]);
    assert_eq!(after, args(&["tool", "--password=[redacted]", "v"]));
}

#[test]
fn a_secret_flag_without_a_value_hides_nothing() {
    let line = ["tool", "--use-auth-token", "--model", "llama"];
    assert_eq!(redacted(&line), args(&line));
}

#[test]
fn short_forms_of_well_known_programs_are_hidden() {
    assert_eq!(redacted(&["/usr/bin/sshpass", "-p", "x y", "ssh"])[2], REDACTED);
    assert_eq!(redacted(&["sshpass", "-pxyz", "ssh"])[1], "-p[redacted]");
    assert_eq!(redacted(&["mysql", "-phunter2"])[1], "-p[redacted]");
    assert_eq!(redacted(&["curl", "-u", "me:pw", "u"])[2], "me:[redacted]");
}

/// Secrets as people choose and programs make them.
fn secret() -> impl Strategy<Value = String> {
    "[A-Za-z0-9!#%+/_.~-]{6,40}".prop_filter("is not itself a flag", |s| !s.starts_with('-'))
}

fn secret_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "HF_TOKEN",
        "WANDB_API_KEY",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "db.password",
        "clientSecret",
    ])
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), more in ".{0,80}") {
        let _ = redact_text(&text);
        let _ = redact_args(&[text, more]);
    }

    #[test]
    fn no_soup_of_its_own_syntax_makes_it_panic(
        text in "(--token|Bearer|Authorization|://|@|=|:| |\"|'|`|\\\\|é|key|a1|eyJ){0,40}",
    ) {
        let _ = redact_text(&text);
    }

    #[test]
    fn the_planted_secret_never_leaves(
        secret in secret(), name in secret_name(), form in 0usize..9, tail in "[a-z]{0,5}",
    ) {
        let marked = format!("Zq7{secret}");
        let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
        let line = match form {
            0 => vec!["env".into(), format!("{name}={marked}"), tail],
            1 => vec!["x".into(), flag, marked.clone(), tail],
            2 => vec!["x".into(), format!("{flag}={marked}"), tail],
            3 => vec!["sh".into(), "-c".into(), format!("{name}={marked} run {tail}")],
            4 => vec!["curl".into(), "-H".into(), format!("Authorization: Bearer {marked}")],
            5 => vec!["curl".into(), format!("https://u:{marked}@host/{tail}")],
            6 => vec!["curl".into(), "-d".into(), format!("{{\"{name}\":\"{marked}\"}}")],
            7 => vec!["sh".into(), "-c".into(), format!("curl -H \"{name}: {marked}\" {tail}")],
            _ => vec!["sh".into(), "-c".into(), format!("run {flag} '{marked}' {tail}")],
        };
        let count = line.len();
        let after = redact_args(&line);
        prop_assert_eq!(after.len(), count);
        let text = after.join(" ");
        prop_assert!(!text.contains("Zq7"), "{}", text);
        prop_assert!(!redact_text(&line.join(" ")).contains("Zq7"), "{}", line.join(" "));
    }

    #[test]
    fn redacting_twice_changes_nothing(text in "[ -~]{0,80}") {
        let once = redact_text(&text);
        prop_assert_eq!(redact_text(&once), once);
    }
}
