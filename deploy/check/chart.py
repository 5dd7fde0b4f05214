"""Checks of the Helm chart: it renders, Kubernetes takes it, and it says what it must say."""

import json
import pathlib
import shutil
import tempfile

import kubernetes_validate
import yaml

import daemonset
from tally import Failed, command, expect

# The oldest that the chart claims to run on, the last with AppArmor as an annotation, and the
# newest that is known.
KUBERNETES = ["1.25", "1.29", "1.37"]

OPERATOR = "monitoring.coreos.com/v1"

# Values that must be refused, and a word of the message that says why.
REFUSED = [
    (["gpu.mode=hostlibrary"], "/gpu/mode"),
    (["gpu.mode=hostLibrary"], "privilege.privileged"),
    (["gpu.runTimeClassName=nvidia"], "runTimeClassName"),
    (["privilege.capabilities.sys_admin=true"], "sys_admin"),
    (["privilege.extraCapabilities={CAP_SYS_ADMIN}"], "/privilege/extraCapabilities/0"),
    (["privilege.extraCapabilities={ALL}"], "/privilege/extraCapabilities/0"),
    (["privilege.seccompProfile.type=Localhost"], "localhostProfile"),
    (["config.exports.sinks={}"], "exports"),
    (["config.export.sinks[0].type=kafka"], "/config/export/sinks/0"),
    (["config.export.sinks[0].type=webhook"], "/config/export/sinks/0"),
    (["config.kernel.ring_bytes=1"], "ring_bytes"),
    (["config.log.level=verbose"], "/config/log/level"),
    (["config.telemetry.enabled=false"], "/livez"),
    (["telemetry.port=9100"], "config.telemetry.listen"),
    (["telemetry.port=metrics"], "/telemetry/port"),
    (["telemetry.serviceMonitor.enabled=true", "telemetry.podMonitor.enabled=true"], "twice"),
    (["telemetry.serviceMonitor.enabled=true", "telemetry.service.enabled=false"], "podMonitor"),
    (["rules.files.bad-name=x"], "bad-name"),
    (["rules.existingConfigMap=mine", "rules.files.a\\.yaml=x"], "only one"),
    (["hostPaths.spool=relative/path"], "/hostPaths/spool"),
    (["image.digest=sha256:abc"], "/image/digest"),
    (["nodeSelectors.gpu=true"], "nodeSelectors"),
    (["terminationGracePeriodSeconds=0"], "/terminationGracePeriodSeconds"),
]

# Files of which the chart carries a copy, because Helm reads nothing outside of the chart.
COPIES = {
    "prometheus/gpuwarden.rules.yaml": "files/gpuwarden.rules.yaml",
    "grafana/gpuwarden.json": "files/gpuwarden.json",
}


class UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is given twice: YAML readers differ on which one counts."""


def mapping(loader, node):
    """A mapping whose keys are all different."""
    keys = [loader.construct_object(key) for key, _ in node.value]
    twice = {key for key in keys if keys.count(key) > 1}
    expect(not twice, f"line {node.start_mark.line + 1}: keys given twice: {sorted(twice)}")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def render(chart, values=None, version=KUBERNETES[-1], sets=()):
    """The objects that Helm would apply."""
    arguments = ["helm", "template", "gw", chart, "--namespace", "monitor",
                 "--kube-version", f"{version}.0"]
    if values:
        arguments += ["--values", values]
    for item in sets:
        arguments += ["--set", item]
    text = command(*arguments)
    return [item for item in yaml.load_all(text, Loader=UniqueKeys) if item]


def lint(chart, values):
    """Helm's own linter, warnings included."""
    arguments = ["--values", values] if values else []
    command("helm", "lint", "--strict", "--quiet", chart, *arguments)


def schema(chart, values, cache):
    """Every object is one that Kubernetes or the Prometheus operator knows, field by field."""
    for version in KUBERNETES:
        for item in render(chart, values, version):
            if item["apiVersion"] == OPERATOR:
                continue
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                place = "/".join(str(part) for part in error.path)
                raise Failed(f"{item['kind']} at {place}: {error.message} ({version})") from error
    operator = [item for item in render(chart, values) if item["apiVersion"] == OPERATOR]
    if operator:
        script = pathlib.Path(__file__).with_name("monitors.mjs")
        command("node", script, cache / "node", given=json.dumps(operator))


def named(chart, values):
    """Every reference inside the release leads to an object of the release."""
    objects = render(chart, values)
    have = {(item["kind"], item["metadata"]["name"]) for item in objects}
    expect(len(have) == len(objects), "two objects have the same kind and name")
    pod = next(item for item in objects if item["kind"] == "DaemonSet")["spec"]["template"]
    for volume in pod["spec"]["volumes"]:
        if "configMap" in volume:
            name = volume["configMap"]["name"]
            expect(("ConfigMap", name) in have, f"volume {volume['name']}: no ConfigMap {name}")
    account = pod["spec"]["serviceAccountName"]
    expect(account == "default" or ("ServiceAccount", account) in have, f"no account {account}")
    labels = pod["metadata"]["labels"].items()
    for item in objects:
        selector = item.get("spec", {}).get("selector")
        if item["kind"] in ("Service", "ServiceMonitor", "PodMonitor"):
            wanted = selector.get("matchLabels", selector).items()
            expect(wanted <= labels, f"{item['kind']} selects {dict(wanted)}")


def refused(chart, sets, word):
    """Bad values stop at Helm, with a message that names them."""
    arguments = [part for item in sets for part in ("--set", item)]
    output = command("helm", "template", "gw", chart, *arguments, status=None)
    expect(word in output, f"the message does not name {word}:\n{output}")


def copies(deploy, chart):
    """The chart's copies are the files themselves."""
    for source, copy in COPIES.items():
        same = (deploy / source).read_bytes() == (chart / copy).read_bytes()
        expect(same, f"{copy} is not {source}; run deploy/check/run.sh --bless")


def bless(deploy):
    """Refreshes the chart's copies."""
    for source, copy in COPIES.items():
        shutil.copy(deploy / source, deploy / "helm/gpuwarden" / copy)


def package(chart):
    """A packed chart renders what the folder renders."""
    with tempfile.TemporaryDirectory() as folder:
        command("helm", "package", chart, "--destination", folder)
        packed = next(pathlib.Path(folder).glob("gpuwarden-*.tgz"))
        on = ["telemetry.prometheusRule.enabled=true", "telemetry.dashboard.enabled=true"]
        expect(render(packed, sets=on) == render(chart, sets=on), "the packed chart differs")


def values_known(chart):
    """Every default is in the schema, and every key of the schema has a default or says why."""
    values = yaml.load((chart / "values.yaml").read_text(), Loader=UniqueKeys)
    known = set(json.loads((chart / "values.schema.json").read_text())["properties"]) - {"global"}
    differ = sorted(known ^ set(values))
    expect(not differ, f"only one of values.yaml and values.schema.json has {differ}")


def daemon_accepts(chart, values, gpuwarden):
    """The daemon reads the configuration and the rules that the chart renders."""
    for item in render(chart, values):
        is_dashboard = item["metadata"]["name"].endswith("-dashboard")
        files = item.get("data", {}) if item["kind"] == "ConfigMap" and not is_dashboard else {}
        for name, text in files.items():
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / name
                # The folders of the pod are not there on the machine that checks.
                path.write_text(text.replace("/etc/gpuwarden/rules.d", folder))
                if name == "config.yaml":
                    command(gpuwarden, "config", "check", path)
                else:
                    command(gpuwarden, "rules", "check", path)


def run(tally, given):
    """All checks of the chart."""
    chart = given.deploy / "helm/gpuwarden"
    folder = given.deploy / "check/values"
    sets = [("default", None)] + [(path.stem, path) for path in sorted(folder.glob("*.yaml"))]
    for name, values in sets:
        tally.check(f"chart: {name}: helm lint --strict", lint, chart, values)
        tally.check(f"chart: {name}: known to Kubernetes", schema, chart, values, given.cache)
        tally.check(f"chart: {name}: references lead somewhere", named, chart, values)
        if given.gpuwarden:
            tally.check(f"chart: {name}: the daemon takes what it is given",
                        daemon_accepts, chart, values, given.gpuwarden)
    for bad, word in REFUSED:
        tally.check(f"chart: refused: {' '.join(bad)}", refused, chart, bad, word)
    tally.check("chart: values and schema know the same keys", values_known, chart)
    tally.check("chart: copies are up to date", copies, given.deploy, chart)
    tally.check("chart: packed is the same", package, chart)
    daemonset.run(tally, chart, folder)
