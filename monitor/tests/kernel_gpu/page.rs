//! What the daemon shows: a row of `/metrics`, the checks of `doctor`.

use serde_json::Value;

use crate::daemon::{self, Ground};

/// The value of a row that has these labels, whatever others it has, as it is written there.
pub(crate) fn row(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let has = |row: &str| {
        let row = format!(",{row},");
        labels.iter().all(|(label, value)| row.contains(&format!(",{label}=\"{value}\",")))
    };
    let fits = rows.filter_map(|row| row.rsplit_once("} ")).find(|(row, _)| has(row));
    fits.map(|(_, value)| value.to_owned())
}

/// The checks of the area `gpu` that `doctor` makes with this ground's configuration.
pub(crate) fn doctor(ground: &Ground) -> Vec<Value> {
    let mut command = daemon::binary();
    command.args(["doctor", "--json", "--config"]).arg(ground.path("config.yaml"));
    let ended = daemon::end(command);
    let checks: Value = serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", ended.stdout, ended.stderr));
    let checks = checks.as_array().expect("an array of checks").clone();
    checks.into_iter().filter(|check| check["area"] == "gpu").collect()
}

#[test]
fn a_row_is_found_by_all_its_labels() {
    let page = "x{UUID=\"GPU-1\",gpu=\"0\",pod=\"a,b\"} 0.5\nx{UUID=\"GPU-1\",gpu=\"1\"} 2\nxy 3\n";
    assert_eq!(row(page, "x", &[("gpu", "0"), ("UUID", "GPU-1")]), Some("0.5".into()));
    assert_eq!(row(page, "x", &[("gpu", "1")]), Some("2".into()));
    assert_eq!(row(page, "x", &[("pod", "a,b")]), Some("0.5".into()));
    assert_eq!(row(page, "x", &[("gpu", "")]), None);
    assert_eq!(row("x{a=\"1\",b=\"\"} 4\n", "x", &[("b", "")]), Some("4".into()));
}
