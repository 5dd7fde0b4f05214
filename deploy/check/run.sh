#!/usr/bin/env bash
# Checks everything under deploy/: chart, systemd unit, Prometheus rules, dashboard, image file.
#
#   deploy/check/run.sh                         all of it, in well under two minutes when warm
#   deploy/check/run.sh --only chart            one group; --help lists them
#   deploy/check/run.sh --match probes          checks with this text in their name
#   deploy/check/run.sh --gpuwarden target/debug/gpuwarden
#                                               also asks the daemon itself (root: and starts it
#                                               with the chart's capabilities and no others)
#   deploy/check/run.sh --bless                 refreshes the chart's copies and the dashboard
#
# Wants Debian 12 or newer and, the first time, root. Tools go to ${XDG_CACHE_HOME:-~/.cache}.
# The last line is `N passed, N failed`; the exit status is not 0 when a check failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$("$here/tools.sh")
PATH="$cache/bin:$cache/venv/bin:$PATH" exec "$cache/venv/bin/python" -B "$here/run.py" \
    --cache "$cache" "$@"
