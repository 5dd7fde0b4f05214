"""Checks of the pages on installation: their examples work and their links lead somewhere."""

import pathlib
import re
import tempfile

import yaml

import chart as charts
from tally import Failed, command, expect

PAGES = [
    "docs/install-kubernetes.md", "docs/install-slurm.md", "deploy/prometheus/runbook.md",
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# Pages in whose blocks of YAML the chart's values and the daemon's configuration are shown.
VALUES_PAGE, CONFIG_PAGE = "docs/install-kubernetes.md", "docs/install-slurm.md"
RULES_VERSION = "gpuwarden.dev/v1"


def blocks(root, page, language):
    """The text of the page's code blocks in a language."""
    text = (root / page).read_text()
    return [body for name, body in FENCE.findall(text) if name == language]


def values_work(root):
    """Every example of values renders, and to what Kubernetes knows."""
    found = blocks(root, VALUES_PAGE, "yaml")
    expect(found, f"{VALUES_PAGE} has no example")
    chart = root / "deploy/helm/gpuwarden"
    for at, body in enumerate(found, start=1):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "values.yaml"
            path.write_text(body)
            try:
                charts.render(chart, path)
            except Failed as reason:
                raise Failed(f"example {at} of {VALUES_PAGE}:\n{body}\n{reason}") from reason


def config_works(root, gpuwarden):
    """The daemon takes every example of a configuration, and of rules."""
    for body in blocks(root, CONFIG_PAGE, "yaml"):
        is_rules = yaml.safe_load(body).get("apiVersion") == RULES_VERSION
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "example.yaml"
            path.write_text(body)
            if is_rules:
                command(gpuwarden, "rules", "check", path)
            else:
                command(gpuwarden, "config", "check", path)


def scripts_parse(root):
    """Shell examples are shell."""
    for page in PAGES:
        for body in blocks(root, page, "sh"):
            command("bash", "-n", given=body)


def anchors(text):
    """The names under which headings can be linked to, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links_lead_somewhere(root):
    """Links between pages, and files of the tree that are named."""
    for page in PAGES:
        text = (root / page).read_text()
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("http"):
                continue
            name, _, anchor = target.partition("#")
            other = (root / page).parent / name if name else root / page
            expect(other.is_file(), f"{page}: no file {name}")
            expect(not anchor or anchor in anchors(other.read_text()), f"{page}: no {target}")
        for name in re.findall(r"`((?:deploy|docs)/[\w./-]+)`", text):
            expect((root / name).exists(), f"{page}: no file {name}")


def commands_named(root):
    """Commands of the daemon that texts for users tell them to run."""
    chart = root / "deploy/helm/gpuwarden"
    texts = [root / page for page in PAGES] + [
        chart / "values.yaml", chart / "templates/NOTES.txt",
        root / "deploy/systemd/gpuwarden.service", root / "deploy/prometheus/gpuwarden.rules.yaml",
    ]
    found = set()
    for path in texts:
        text = path.read_text()
        found.update(re.findall(
            r"(?:`|^|-- |/usr/bin/|&& )gpuwarden ((?:config |rules )?[a-z][a-z-]+)", text,
            re.MULTILINE))
    return sorted(found)


def commands_exist(root, gpuwarden):
    """Each of them is a command."""
    missing = []
    for name in commands_named(root):
        try:
            command(gpuwarden, *name.split(), "--help")
        except Failed:
            missing.append(f"gpuwarden {name}")
    expect(not missing, f"users are told to run what is not there: {missing}")


def run(tally, given):
    """All checks of the pages."""
    root = given.deploy.parent
    tally.check("docs: values in examples render", values_work, root)
    tally.check("docs: shell examples parse", scripts_parse, root)
    tally.check("docs: links lead somewhere", links_lead_somewhere, root)
    if given.gpuwarden:
        tally.check("docs: the daemon takes the examples", config_works, root, given.gpuwarden)
        tally.check("docs: the commands exist", commands_exist, root, given.gpuwarden)
