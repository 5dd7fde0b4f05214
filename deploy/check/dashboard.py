#!/usr/bin/env -S python3 -B
"""Checks of the Grafana dashboard; and, started by itself, runs its queries on a real Prometheus.

    deploy/check/dashboard.py http://127.0.0.1:9090 [--must-have TITLE ...] [--wait SECONDS]

Every query of every panel is sent, with the variables put in. An error is a failure. So is an
empty answer for a panel that must have data: those in MUST_HAVE, and those named with
--must-have (the titles of panels for which the caller has made traffic). With --wait, queries
that are still empty are asked again until the time is over.
"""

import argparse
import importlib.util
import json
import pathlib
import re
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from tally import Failed, Tally, command, expect

# Panels that have data as soon as one gpuwarden has been scraped twice, without GPU and without
# a single alert.
MUST_HAVE = (
    "Hosts", "Sensors off", "Records lost", "Sinks down", "Kernel records", "Drain and decode",
    "CPU of the monitor", "Memory of the monitor", "Reload refused", "Workloads left out",
    "Rules inactive", "Versions", "Alerts by sink",
)

# What Grafana puts in for its variables. Longer names first: $__rate_interval holds $__rate.
VARIABLES = {
    "$__rate_interval": "1m", "$__interval": "15s", "$__range": "1h",
    "$instance": ".*", "$namespace": ".*", "$workload": ".*",
}
# For a Prometheus that a test has just started.
REQUEST_TIMEOUT_S = 10

SCHEMA_VERSION_MIN = 36  # Grafana 9
GRID_COLUMNS = 24


def read(deploy):
    """The dashboard."""
    return json.loads((deploy / "grafana/gpuwarden.json").read_text())


def put_in(expr):
    """The expression with every variable replaced."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    expect("$" not in expr, f"a variable is not known: {expr}")
    return expr


def queries(board):
    """(panel title, refId, expression) of everything that is asked."""
    found = [
        (panel["title"], target["refId"], put_in(target["expr"]))
        for panel in board["panels"] for target in panel.get("targets", [])
    ]
    for annotation in board["annotations"]["list"]:
        found.append((f"annotation {annotation['name']}", "A", put_in(annotation["expr"])))
    return found


def generator(deploy):
    """The module that writes the dashboard."""
    spec = importlib.util.spec_from_file_location("build", deploy / "grafana/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bless(deploy):
    """Writes the dashboard again."""
    text = json.dumps(generator(deploy).dashboard(), indent=1)
    (deploy / "grafana/gpuwarden.json").write_text(text + "\n")


def generated(deploy):
    """The file is what the generator writes."""
    expect(read(deploy) == generator(deploy).dashboard(),
           "gpuwarden.json is not what build.py writes; run deploy/check/run.sh --bless")


def model(deploy):
    """Grafana can import and provision it, and every panel says what it is for."""
    board = read(deploy)
    expect(board["uid"] == "gpuwarden", "links need the uid gpuwarden")
    expect(board["id"] is None, "an id belongs to one Grafana only")
    expect(board["schemaVersion"] >= SCHEMA_VERSION_MIN, "the model is older than Grafana 9")
    expect("__inputs" not in board, "__inputs is asked for on import and breaks provisioning")
    numbers = [panel["id"] for panel in board["panels"]]
    expect(len(set(numbers)) == len(numbers), "two panels have the same id")
    titles = [panel["title"] for panel in board["panels"]]
    expect(len(set(titles)) == len(titles), "two panels have the same title")
    wanted = {"type": "prometheus", "uid": "${datasource}"}
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        expect(panel["description"], f"{panel['title']}: no description")
        expect(panel["fieldConfig"]["defaults"].get("unit"), f"{panel['title']}: no unit")
        for part in [panel, *panel["targets"]]:
            expect(part["datasource"] == wanted, f"{panel['title']}: a fixed data source")
    for variable in board["templating"]["list"][1:]:
        expect(variable["datasource"] == wanted, f"{variable['name']}: a fixed data source")


def layout(deploy):
    """No panel lies on another one or beyond the edge."""
    taken = {}
    for panel in read(deploy)["panels"]:
        place = panel["gridPos"]
        expect(place["x"] + place["w"] <= GRID_COLUMNS, f"{panel['title']}: beyond the edge")
        for column in range(place["x"], place["x"] + place["w"]):
            for line in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((column, line), panel["title"])
                expect(other == panel["title"], f"{panel['title']} lies on {other}")


def parses(deploy):
    """Prometheus reads every expression."""
    rules = [
        {"record": f"panel:{at}", "expr": expr}
        for at, (_, _, expr) in enumerate(queries(read(deploy)))
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "dashboard.yaml"
        path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        output = command("promtool", "check", "rules", "--lint=none", path)
    expect(f"{len(rules)} rules found" in output, output)


def known(deploy):
    """Dashboard, rules and must-have list speak of what exists."""
    board = read(deploy)
    titles = {panel["title"] for panel in board["panels"]}
    expect(set(MUST_HAVE) <= titles, f"no panels {sorted(set(MUST_HAVE) - titles)}")
    rules = (deploy / "prometheus/gpuwarden.rules.yaml").read_text()
    recorded = set(re.findall(r"record: (\S+)", rules))
    text = rules + "\n".join(expr for _, _, expr in queries(board))
    used = set(re.findall(r"[a-z_]+:gpuwarden_[a-z0-9_:]+", text))
    expect(used <= recorded, f"not recorded: {sorted(used - recorded)}")
    names = set(re.findall(r"(?<![a-z:_.\"])gpuwarden_[a-z0-9_]+(?=[{\[) \n])", text))
    source = deploy.parent / "monitor/src/telemetry"
    exported = "\n".join(path.read_text() for path in source.rglob("*.rs"))
    missing = sorted(name for name in names if f'"{name}"' not in exported)
    expect(not missing, f"the daemon exports no {missing} ({source})")


def run(tally, given):
    """All checks of the dashboard that need no Prometheus."""
    for name, function in [
        ("generated from its table", generated), ("Grafana takes the model", model),
        ("panels do not overlap", layout), ("every expression parses", parses),
        ("metrics are those of the daemon", known),
    ]:
        tally.check(f"dashboard: {name}", function, given.deploy)


def ask(url, expr):
    """The number of series that Prometheus answers with."""
    full = f"{url.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': expr})}"
    try:
        with urllib.request.urlopen(full, timeout=REQUEST_TIMEOUT_S) as answer:
            body = json.load(answer)
    except urllib.error.HTTPError as error:
        raise Failed(f"{expr}\n{error.read().decode(errors='replace')}") from error
    except OSError as error:
        raise Failed(f"{url} does not answer: {error}") from error
    expect(body["status"] == "success", f"{expr}\n{body}")
    return len(body["data"]["result"])


def live(url, expr, must_have, until):
    """The query is answered; with data, if it must."""
    while ask(url, expr) == 0 and must_have:
        expect(time.monotonic() < until, f"no data, and this panel must have some:\n{expr}")
        time.sleep(1)


def main():
    """Runs every query on a Prometheus."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of a Prometheus, e.g. http://127.0.0.1:9090")
    parser.add_argument("--must-have", action="append", default=[], metavar="TITLE")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS")
    given = parser.parse_args()
    board = read(pathlib.Path(__file__).resolve().parent.parent)
    titles = {panel["title"] for panel in board["panels"]}
    for title in given.must_have:
        if title not in titles:
            parser.error(f"no panel is called {title!r}; there are {sorted(titles)}")
    wanted = {*MUST_HAVE, *given.must_have}
    tally, until = Tally(), time.monotonic() + given.wait
    for title, part, expr in queries(board):
        tally.check(f"dashboard: {title} ({part})", live, given.url, expr, title in wanted, until)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
