use super::*;
use crate::model::Severity;

fn errors(text: &str) -> Vec<String> {
    match parse(text, "config.yaml") {
        Err(ConfigErrors::Invalid(errors)) => errors.iter().map(ToString::to_string).collect(),
        other => panic!("expected mistakes in {text:?}, got {other:?}"),
    }
}

#[test]
fn printed_defaults_read_back_as_the_defaults() {
    let text = Config::default().to_annotated_yaml();
    assert_eq!(parse(&text, "printed").unwrap(), Config::default(), "{text}");
}

#[test]
fn every_key_is_printed_with_a_value() {
    let text = Config::default().to_annotated_yaml();
    for section in key::SECTIONS {
        for key in section.keys {
            let line = text.lines().find(|line| {
                line.trim_start_matches([' ', '#']).starts_with(&format!("{}:", key.name))
            });
            let line =
                line.unwrap_or_else(|| panic!("{}.{} is not printed", section.name, key.name));
            let open = ["name_classes", "sinks"].contains(&key.name);
            assert!(open || !line.trim_end().ends_with(':'), "{line}");
        }
    }
}

const SINKS: &str = "
export:
  sinks:
    - {type: stdout, format: json}
    - {type: file, path: /var/log/alerts.jsonl, format: ocsf, rotate_bytes: 1MiB, keep: 3}
    - type: syslog
      name: siem
      min_severity: high
      transport: tls
      address: '[2001:db8::1]:6514'
      ca_file: /etc/ca.pem
      server_name: siem.example.com
      facility: auth
    - type: webhook
      url: https://hooks.example.com/x
      headers: {X-Token: abc, X-Number: 7}
      hmac_secret_file: /etc/secret
      timeout_ms: 500
";

#[test]
fn sinks_are_checked_and_print_back() {
    let config = parse(SINKS, "config.yaml").unwrap();
    let names: Vec<&str> = config.export.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["stdout", "file", "siem", "webhook"]);
    assert_eq!(config.export.sinks[2].min_severity, Severity::High);
    let SinkKind::Syslog(syslog) = &config.export.sinks[2].kind else { panic!() };
    assert_eq!((syslog.host.as_str(), syslog.port), ("2001:db8::1", 6514));
    assert_eq!(syslog.facility, SyslogFacility(4));
    let SinkKind::Webhook(webhook) = &config.export.sinks[3].kind else { panic!() };
    assert!(!format!("{webhook:?}").contains("abc"), "a header's value is a secret");
    assert_eq!(webhook.headers[1], ("X-Number".into(), "7".into()));
    assert_eq!(parse(&config.to_annotated_yaml(), "printed").unwrap(), config);
}

#[test]
fn all_mistakes_are_reported_at_once_with_their_places() {
    let found = errors(
        "kernel:\n  ring_hihg_bytes: 4MiB\n  ring_bulk_bytes: 3000000\n  report_loopback: maybe\n\
         gpu: {interval_ms: 5}\nwatch:\n  weights: ['/models/[']\ntelemetry: {listen: here}\n\
         log: {level: loud}\nexprot: {}\n",
    );
    assert_eq!(found.len(), 8, "{found:#?}");
    assert!(found[0].starts_with("config.yaml:2:3: unknown key `ring_hihg_bytes` in kernel"));
    assert!(found[0].contains("did you mean `ring_high_bytes`?"), "{}", found[0]);
    assert!(found[1].starts_with("config.yaml:3:20: ") && found[1].contains("power of two"));
    assert!(found[2].starts_with("config.yaml:4:20: ") && found[2].contains("true or false"));
    assert!(found[3].starts_with("config.yaml:5:20: ") && found[3].contains("100 to 60000"));
    assert!(found[4].starts_with("config.yaml:7:13: ") && found[4].contains("not a glob"));
    assert!(found[5].contains("ip:port"));
    assert!(found[6].contains("error, warn, info, debug, trace"));
    assert!(found[7].contains("did you mean `export`?"), "{}", found[7]);
}

#[test]
fn sink_mistakes_name_the_sink() {
    let found = errors(
        "export:
  sinks:
  - {type: stdout}
  - {type: stdout}
  - {type: carrier-pigeon}
  - {type: syslog, address: 'host:0', ca_file: /x}
  - {type: webhook, url: 'ftp://x/'}
  - {type: file}
  - {name: X, type: stdout}
  - {name: x}
  - {type: file, path: relative}
",
    );
    let all = found.join("\n");
    for part in [
        "the name `stdout` is taken",
        "export.sinks[2].type is `carrier-pigeon`; expected one of stdout, file, syslog, webhook",
        "export.sinks[3].address is `host:0`",
        "export.sinks[3].ca_file is `/x`; it has a meaning only with transport: tls",
        "export.sinks[4].url is `ftp://x/`",
        "export.sinks[5] lacks `path`",
        "export.sinks[6].name is `X`; expected lower-case",
        "export.sinks[7] lacks `type`",
        "export.sinks[8].path is `relative`",
    ] {
        assert!(all.contains(part), "{part} not in\n{all}");
    }
}

#[test]
fn a_blank_file_is_the_defaults() {
    assert_eq!(parse("# nothing\n\n", "x").unwrap(), Config::default());
    assert_eq!(parse("", "x").unwrap(), Config::default());
    assert_eq!(parse("kernel:\nlog: {}\n", "x").unwrap(), Config::default());
}

#[test]
fn broken_yaml_is_one_error_with_a_place() {
    let found = errors("kernel: {ring_high_bytes: 4MiB\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("not valid YAML"), "{found:?}");
    assert!(errors("- a\n- b\n")[0].contains("a mapping of keys"), "a list is no configuration");
}

#[test]
fn a_named_file_must_exist() {
    let missing = load(Some(Path::new("/nonexistent/config.yaml"))).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/config.yaml"), "{missing}");
}

#[test]
fn a_file_beyond_the_bound_is_refused_unread() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.yaml");
    let bytes = usize::try_from(CONFIG_BYTES_MAX).unwrap();
    std::fs::write(&path, "#".repeat(bytes)).unwrap();
    assert!(load(Some(&path)).is_ok());
    std::fs::write(&path, "#".repeat(bytes + 1)).unwrap();
    assert!(matches!(load(Some(&path)), Err(ConfigErrors::TooLong { .. })));
}

#[test]
fn a_file_that_is_no_text_is_told_apart_from_one_that_cannot_be_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config.yaml");
    std::fs::write(&path, b"log:\n  level: \xff\n").expect("written");
    let error = load(Some(&path)).expect_err("not UTF-8").to_string();
    assert!(error.contains("not UTF-8 text (line 2, byte 14)"), "{error}");
}

#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("config.yaml");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo is there");
    assert!(made.success());
    assert!(matches!(load(Some(&path)), Err(ConfigErrors::Pipe { .. })));
}

#[test]
fn too_many_sinks_are_refused_with_the_number() {
    let text = |count: usize| {
        let sinks: Vec<String> =
            (0..count).map(|n| format!("{{type: stdout, name: s{n}}}")).collect();
        format!("export: {{sinks: [{}]}}", sinks.join(", "))
    };
    let most = super::check::SINKS_MAX;
    assert!(parse(&text(most), "c").is_ok());
    let error = parse(&text(most + 1), "c").expect_err("too many").to_string();
    assert!(error.contains(&format!("at most {most} sinks")), "{error}");
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,200}") {
        let _ = parse(&text, "any");
    }
}
