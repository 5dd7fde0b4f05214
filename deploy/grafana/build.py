"""Writes gpuwarden.json, the Grafana dashboard: the table below is what people edit.

    python3 deploy/grafana/build.py > deploy/grafana/gpuwarden.json

`deploy/check/run.sh --bless` does the same and refreshes the chart's copy.
"""

import json
import sys

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
HOST = 'instance=~"$instance"'
WORK = 'instance=~"$instance",namespace=~"$namespace",workload=~"$workload"'
NEW = "unless gpuwarden_alerts_total{%s} offset $__rate_interval" % HOST
COLOURS = {"critical": "dark-red", "high": "red", "medium": "orange", "low": "yellow",
           "info": "blue"}


def query(expr, legend="", instant=False):
    """One query of a panel; `{host}` and `{work}` stand for the selectors of the variables."""
    expr = expr.replace("{host}", "{%s}" % HOST).replace("{work}", "{%s}" % WORK)
    expr = expr.replace("{host,", "{%s," % HOST)
    return {"expr": expr, "legendFormat": legend, "instant": instant, "range": not instant}


def thresholds(*steps):
    """Colours from a value on: (None, "green"), (1, "red")."""
    return {"mode": "absolute", "steps": [{"value": at, "color": colour} for at, colour in steps]}


GOOD_AT_ZERO = thresholds((None, "green"), (1, "red"))


def panel(kind, title, why, queries, width=12, height=8, unit="short", **more):
    """A panel without its place."""
    targets = [
        {**item, "refId": chr(ord("A") + at), "datasource": DATASOURCE,
         **({"format": "table"} if kind == "table" else {})}
        for at, item in enumerate(queries)
    ]
    defaults = {"unit": unit, "min": 0, **more.pop("defaults", {})}
    config = {"defaults": defaults, "overrides": more.pop("overrides", [])}
    return {"type": kind, "title": title, "description": why, "datasource": DATASOURCE,
            "targets": targets, "fieldConfig": config, "options": more.pop("options", {}),
            "gridPos": {"w": width, "h": height}, **more}


def stat(title, why, expr, width=4, unit="short", **more):
    """One figure."""
    options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
               "colorMode": "value", "graphMode": "none", "textMode": "auto"}
    return panel("stat", title, why, [query(expr, instant=True)], width, 4, unit,
                 options=options, **more)


def lines(title, why, queries, width=12, unit="short", stack=False, **more):
    """Curves over time."""
    custom = {"lineWidth": 1, "fillOpacity": 20 if stack else 5, "showPoints": "never",
              "spanNulls": False, "stacking": {"mode": "normal" if stack else "none"}}
    options = {"legend": {"displayMode": "table", "placement": "bottom",
                          "calcs": ["lastNotNull", "max"]},
               "tooltip": {"mode": "multi", "sort": "desc"}}
    return panel("timeseries", title, why, queries, width, 8, unit,
                 defaults={"custom": custom, **more.pop("defaults", {})}, options=options, **more)


def right_axis(pattern, unit):
    """Curves whose name matches, on an axis of their own."""
    return {"matcher": {"id": "byRegexp", "options": pattern},
            "properties": [{"id": "unit", "value": unit}, {"id": "max", "value": 1},
                           {"id": "custom.axisPlacement", "value": "right"},
                           {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [6, 4]}}]}


def severities():
    """A colour for each severity."""
    return [{"matcher": {"id": "byName", "options": name},
             "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]}
            for name, colour in COLOURS.items()]


OVERVIEW = [
    stat("Hosts", "Monitors that were scraped.", "count(gpuwarden_build_info{host})"),
    stat("Alerts since start", "What the running daemons have sent, by severity.",
         "sum by (severity) (gpuwarden_alerts_total{host})", 8, overrides=severities()),
    stat("Sensors off", "Rules that need them cannot match. `gpuwarden doctor` says why.",
         'count(gpuwarden_sensor_state{host,state="off"} == 1) or vector(0)',
         defaults={"thresholds": thresholds((None, "green"), (1, "orange"))}),
    stat("Records lost", "Share of what the kernel saw and the daemon did not.",
         "max(instance:gpuwarden_kernel_records_lost:ratio_rate5m{host}) or vector(0)",
         unit="percentunit", defaults={"thresholds": thresholds((None, "green"), (0.001, "red"))}),
    stat("Sinks down", "Sinks whose last delivery failed. Their alerts wait in the spool.",
         "count(gpuwarden_sink_up{host} == 0) or vector(0)",
         defaults={"thresholds": GOOD_AT_ZERO}),
]

WORKLOADS = [
    lines("Workload timeline", "Egress, weights read and GPU use on one time axis: weights that "
          "are read and bytes that leave, while the GPU idles, are the picture to look for.",
          [query("sum by (workload) (rate(gpuwarden_workload_egress_bytes_total{work}"
                 "[$__rate_interval]))", "{{workload}} egress"),
           query("sum by (workload) (rate(gpuwarden_workload_weight_bytes_read_total{work}"
                 "[$__rate_interval]))", "{{workload}} weights read"),
           query("avg by (workload) (gpuwarden_workload_gpu_utilization_ratio{work})",
                 "{{workload}} GPU")],
          24, "Bps", overrides=[right_axis("/ GPU$/", "percentunit")]),
    lines("Egress by workload", "Bytes sent, summed over all processes of the workload.",
          [query("topk(15, sum by (workload, namespace, pod) (rate("
                 "gpuwarden_workload_egress_bytes_total{work}[$__rate_interval])))",
                 "{{namespace}} {{workload}} {{pod}}")], unit="Bps", stack=True),
    lines("Weights read by workload", "Bytes read from files labelled as model weights.",
          [query("topk(15, sum by (workload, namespace, pod) (rate("
                 "gpuwarden_workload_weight_bytes_read_total{work}[$__rate_interval])))",
                 "{{namespace}} {{workload}} {{pod}}")], unit="Bps", stack=True),
    lines("GPU use by workload", "Share of each GPU's time that the workload's processes used.",
          [query("gpuwarden_workload_gpu_utilization_ratio{work}",
                 "{{workload}} GPU {{gpu}}")], unit="percentunit", defaults={"max": 1}),
    lines("GPU memory by workload", "Memory on each GPU that the workload's processes hold.",
          [query("gpuwarden_workload_gpu_memory_used_bytes{work}",
                 "{{workload}} GPU {{gpu}}")], unit="bytes"),
]

GPUS = [
    lines("GPU utilisation", "Share of time in which the GPU ran a kernel.",
          [query("gpuwarden_gpu_utilization_ratio{host}", "{{instance}} GPU {{gpu}}")],
          8, "percentunit", defaults={"max": 1}),
    lines("GPU memory", "Memory in use.",
          [query("gpuwarden_gpu_memory_used_bytes{host}", "{{instance}} GPU {{gpu}}")],
          8, "bytes"),
    lines("GPU power", "A flat line at the limit, day and night, is what mining looks like.",
          [query("gpuwarden_gpu_power_watts{host}", "{{instance}} GPU {{gpu}}")], 8, "watt"),
]

ALERTS = [
    lines("New alerts", "By severity. A rule's first alert begins a series, which rate "
          "functions cannot see, so it is asked for as well.",
          [query("sum by (severity) (increase(gpuwarden_alerts_total{host}[$__rate_interval]))"
                 " or sum by (severity) (gpuwarden_alerts_total{host} " + NEW + ")",
                 "{{severity}}")], stack=True, overrides=severities()),
    panel("table", "Alerts by rule", "Since the daemons started.",
          [query("sort_desc(sum by (rule, severity) (gpuwarden_alerts_total{host}))",
                 instant=True)],
          transformations=[{"id": "organize", "options": {"excludeByName": {"Time": True}}}]),
    lines("Rule matches", "Matches before deduplication: a rule far above its alerts is noisy.",
          [query("topk(15, sum by (rule) (rate(gpuwarden_rule_matches_total{host}"
                 "[$__rate_interval])))", "{{rule}}")], 24),
]

HEALTH = [
    panel("state-timeline", "Sensors not fully attached",
          "Sensors on their fallback or off. Empty is good.",
          [query('gpuwarden_sensor_state{host,state!="attached"} == 1',
                 "{{instance}} {{sensor}} {{state}}")],
          options={"mergeValues": True, "showValue": "never"}),
    lines("Kernel records", "What the kernel programs saw, sent and left out, by reason.",
          [query("sum by (outcome) (rate(gpuwarden_kernel_records_total{host}"
                 "[$__rate_interval]))", "{{outcome}}")]),
    lines("Loss by kind", "Records that never reached the daemon.",
          [query('sum by (kind, outcome) (rate(gpuwarden_kernel_records_total{host,outcome!~'
                 '"seen|sent|filtered"}[$__rate_interval])) > 0', "{{kind}} {{outcome}}")]),
    lines("Drain and decode", "Records taken from the rings, and what became of them.",
          [query("sum by (result) (rate(gpuwarden_drain_records_total{host}"
                 "[$__rate_interval]))", "drain {{result}}"),
           query("sum by (result) (rate(gpuwarden_decode_records_total{host}"
                 "[$__rate_interval]))", "decode {{result}}")]),
    lines("Tables", "Share of their bounds that the daemon's tables take. At 1 the oldest go.",
          [query("max by (table) (gpuwarden_state_entries{host} / "
                 "(gpuwarden_state_entries_max{host} > 0))", "{{table}}")], 8,
          "percentunit", defaults={"max": 1}),
    lines("CPU of the monitor", "Cores.",
          [query("rate(process_cpu_seconds_total{host,job=~\".*gpuwarden.*\"}"
                 "[$__rate_interval])", "{{instance}}")], 8),
    lines("Memory of the monitor", "Resident.",
          [query("process_resident_memory_bytes{host,job=~\".*gpuwarden.*\"}",
                 "{{instance}}")], 8, "bytes"),
    stat("Reload refused", "Hosts that kept their old rules because the new ones are wrong.",
         "count(gpuwarden_config_last_reload_successful{host} == 0) or vector(0)",
         defaults={"thresholds": GOOD_AT_ZERO}),
    stat("Workloads left out", "Series that were not exported because of their bound, in a day.",
         "sum(increase(gpuwarden_metrics_series_dropped_total{host}[1d])) or vector(0)",
         defaults={"thresholds": thresholds((None, "green"), (1, "orange"))}),
    stat("Rules inactive", "Rules that cannot run on some host; `gpuwarden rules list` says why.",
         'max(gpuwarden_rules{host,state="inactive"}) or vector(0)',
         defaults={"thresholds": thresholds((None, "green"), (1, "blue"))}),
    panel("table", "Versions", "One line for each version that runs.",
          [query("count by (version) (gpuwarden_build_info{host})", instant=True)], 12, 4,
          transformations=[{"id": "organize", "options": {"excludeByName": {"Time": True}}}]),
]

SINKS = [
    lines("Alerts by sink", "What became of them: sent, not wanted there, refused, dropped.",
          [query("sum by (sink, outcome) (rate(gpuwarden_sink_alerts_total{host}"
                 "[$__rate_interval]))", "{{sink}} {{outcome}}")]),
    lines("Failed attempts", "Each is tried again later.",
          [query("sum by (sink) (rate(gpuwarden_sink_failures_total{host}[$__rate_interval]))",
                 "{{sink}}")]),
    lines("Alerts waiting", "By sink. A queue that never empties is slower than the alerts.",
          [query("gpuwarden_sink_pending_alerts{host}", "{{instance}} {{sink}}")]),
    lines("Spool", "Share of its bound that the spool takes on disk.",
          [query("instance:gpuwarden_spool:fill_ratio{host}", "{{instance}}")], 12,
          "percentunit", defaults={"max": 1}),
]

ROWS = [("Overview", OVERVIEW), ("Workloads", WORKLOADS), ("GPUs", GPUS), ("Alerts", ALERTS),
        ("Sensors and loss", HEALTH), ("Sinks", SINKS)]


def placed():
    """Panels with places and numbers, row by row, filled from the left."""
    panels, top = [], 0
    for name, members in ROWS:
        panels.append({"type": "row", "title": name, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": top, "w": 24, "h": 1}})
        top, left, deepest = top + 1, 0, 0
        for member in members:
            size = member["gridPos"]
            if left + size["w"] > 24:
                top, left, deepest = top + deepest, 0, 0
            place = {"x": left, "y": top, "w": size["w"], "h": size["h"]}
            panels.append({**member, "gridPos": place})
            left, deepest = left + size["w"], max(deepest, size["h"])
        top += deepest
    return [{"id": at, **item} for at, item in enumerate(panels, start=1)]


def variable(name, label, asked):
    """A choice among the values of a label; all of them at first."""
    return {"type": "query", "name": name, "label": label, "datasource": DATASOURCE,
            "query": {"query": asked, "refId": name}, "definition": asked, "refresh": 2,
            "sort": 1, "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"text": "All", "value": "$__all"}}


def dashboard():
    """The whole model, as Grafana imports and provisions it."""
    fired = query("sum by (rule, severity) (increase(gpuwarden_alerts_total{host}"
                  "[$__rate_interval])) > 0 or sum by (rule, severity) (gpuwarden_alerts_total"
                  "{host} " + NEW + ") > 0")["expr"]
    annotation = {"name": "Alerts", "datasource": DATASOURCE, "enable": True, "expr": fired,
                  "iconColor": "red", "titleFormat": "{{severity}}", "textFormat": "{{rule}}",
                  "step": "60s"}
    source = {"type": "datasource", "name": "datasource", "label": "Data source",
              "query": "prometheus", "current": {}}
    known = "gpuwarden_workload_egress_bytes_total{%s}" % HOST
    return {
        "id": None, "uid": "gpuwarden", "title": "gpuwarden", "schemaVersion": 39, "version": 1,
        "description": "Workloads, alerts and the health of the monitor itself.",
        "tags": ["gpuwarden", "gpu", "security"], "timezone": "", "editable": True,
        "graphTooltip": 1, "refresh": "30s", "time": {"from": "now-3h", "to": "now"},
        "annotations": {"list": [annotation]},
        "templating": {"list": [
            source,
            variable("instance", "Host", "label_values(gpuwarden_build_info, instance)"),
            variable("namespace", "Namespace", "label_values(%s, namespace)" % known),
            variable("workload", "Workload", "label_values(%s, workload)" % known),
        ]},
        "panels": placed(),
    }


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=1)
    sys.stdout.write("\n")
