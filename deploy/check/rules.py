"""Checks of the Prometheus rules, with promtool and against the runbook."""

import pathlib
import re
import tempfile

import yaml

from tally import command, expect

SEVERITIES = {"info", "warning", "critical"}


def parses(folder):
    """promtool reads the rules."""
    command("promtool", "check", "rules", folder / "gpuwarden.rules.yaml")


def tested(folder):
    """Each unit test holds."""
    command("promtool", "test", "rules", folder / "gpuwarden.tests.yaml")


def rules_of(folder, kind):
    """The rules of a kind (`alert` or `record`) by name."""
    groups = yaml.safe_load((folder / "gpuwarden.rules.yaml").read_text())["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def covered(folder):
    """Every alert has a moment at which it fires and one at which it is silent."""
    tests = yaml.safe_load((folder / "gpuwarden.tests.yaml").read_text())["tests"]
    fires, silent, computed = set(), set(), set()
    for case in (case for test in tests for case in test["promql_expr_test"]):
        if alert := re.search(r'alertname="(\w+)"', case["expr"]):
            (fires if case["exp_samples"] else silent).add(alert[1])
        elif case["exp_samples"]:
            computed.add(case["expr"])
    names = set(rules_of(folder, "alert"))
    expect(not names - fires, f"no test in which these fire: {sorted(names - fires)}")
    expect(not names - silent, f"no test in which these are silent: {sorted(names - silent)}")
    records = set(rules_of(folder, "record"))
    expect(not records - computed, f"recorded and not tested: {sorted(records - computed)}")


def annotated(folder):
    """Every alert has what the person at three in the morning needs."""
    for name, rule in rules_of(folder, "alert").items():
        expect(rule["labels"].get("severity") in SEVERITIES, f"{name}: no known severity")
        for key in ("summary", "description", "runbook_url"):
            expect(rule["annotations"].get(key), f"{name}: no {key}")


def kinds(folder):
    """Records are tested under the names that the kernel side gives them."""
    record = folder.parent.parent / "monitor-common/src/record.rs"
    known = set(re.findall(r'KIND_\w+ => "(\w+)"', record.read_text()))
    expect(known, f"{record} names no kind")
    text = (folder / "gpuwarden.tests.yaml").read_text()
    used = set(re.findall(r'gpuwarden_kernel_records_total\{[^}]*kind="(\w+)"', text))
    expect(used <= known, f"no kind is called {sorted(used - known)}; there are {sorted(known)}")


def runbook(folder):
    """Every alert leads to a section of the runbook, and every section to an alert."""
    text = (folder / "runbook.md").read_text()
    sections = {title.lower() for title in re.findall(r"^## (Gpuwarden\w+)$", text, re.MULTILINE)}
    for name, rule in rules_of(folder, "alert").items():
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        expect(page.endswith("/deploy/prometheus/runbook.md"), f"{name}: leads to {page}")
        expect(anchor == name.lower(), f"{name}: leads to the section {anchor}")
        expect(anchor in sections, f"{name}: the runbook has no such section")
    extra = sections - {name.lower() for name in rules_of(folder, "alert")}
    expect(not extra, f"sections of the runbook without an alert: {sorted(extra)}")


def loads(folder):
    """A Prometheus with the example configuration would start."""
    with tempfile.TemporaryDirectory() as work:
        for name in ("prometheus.yaml", "gpuwarden.rules.yaml"):
            (pathlib.Path(work) / name).write_text((folder / name).read_text())
        command("promtool", "check", "config", pathlib.Path(work) / "prometheus.yaml")


def run(tally, given):
    """All checks of the rules."""
    folder = given.deploy / "prometheus"
    tally.check("rules: promtool check rules", parses, folder)
    tally.check("rules: promtool test rules", tested, folder)
    tally.check("rules: each alert is seen firing and silent", covered, folder)
    tally.check("rules: kinds of records are those of the kernel side", kinds, folder)
    tally.check("rules: each alert is annotated", annotated, folder)
    tally.check("rules: each alert has its section in the runbook", runbook, folder)
    tally.check("rules: the example configuration loads", loads, folder)
