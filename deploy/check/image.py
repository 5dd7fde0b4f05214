"""Checks of the image file. It is not built here: that needs a container engine."""

import re
import shutil

from tally import command, expect


def lint(path):
    """hadolint has nothing to say."""
    command("hadolint", path)


def sources(path, root):
    """Every source that is copied is there, and every folder of the workspace is copied."""
    text = path.read_text()
    named = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        named.update(line.split()[:-1])
    missing = [name for name in sorted(named) if not (root / name).exists()]
    expect(not missing, f"COPY names what is not there: {missing}")
    manifest = (root / "Cargo.toml").read_text()
    members = re.search(r"members = \[(.*?)\]", manifest, re.DOTALL)[1]
    for member in re.findall(r'"([^"]+)"', members):
        expect(
            any(member == name or member.startswith(f"{name}/") for name in named),
            f"the workspace member {member} is not copied, so cargo would refuse the workspace",
        )


def agrees(path, chart):
    """Paths, port and arguments are those of the chart."""
    text = path.read_text()
    pod = (chart / "templates/daemonset.yaml").read_text()
    config = re.search(r'"--config", "([^"]+)"', text)[1]
    expect(f"--config={config}" in pod, f"the chart does not start with --config={config}")
    expect("EXPOSE 9753" in text, "the port of the metrics is not exposed")
    expect('ENTRYPOINT ["/usr/bin/gpuwarden"]' in text, "the entry point is another program")


def run(tally, given):
    """All checks of the image file."""
    path = given.deploy / "docker/Dockerfile"
    if shutil.which("hadolint"):
        tally.check("image: hadolint", lint, path)
    else:
        print("skip  image: hadolint is not available on this platform")
    tally.check("image: every source is there", sources, path, given.deploy.parent)
    tally.check("image: agrees with the chart", agrees, path, given.deploy / "helm/gpuwarden")
