#!/bin/bash
# What people and programs start in a job every day.
#
#   tools.sh compile|build|ray|notebook|install|clone|probe|upgrade|look
printf '{"act":"ready","pid":%d}\n' $$
read -r _
cd "$STAND_ROOM" || exit 1
say() { printf '{"act":"%s","pid":%d}\n' "$1" $$; }
cannot() { printf '{"act":"cannot","pid":%d,"why":"%s is not installed"}\n' $$ "$1"; exit 0; }
need() { command -v "$1" >/dev/null || cannot "$1"; }
set -e

case $1 in
compile)
  # As Triton and Inductor do: a little C file, a library, loaded at once.
  need gcc
  for number in $(seq 20); do
    folder=$(mktemp -d /tmp/tmpXXXXXX)
    echo "int answer(void) { return $number; }" >"$folder/main.c"
    gcc "$folder/main.c" -O1 -shared -fPIC -o "$folder/main.so"
    got=$(/usr/bin/python3 -c "import ctypes; print(ctypes.CDLL('$folder/main.so').answer())")
    rm -r "$folder"
    [ "$got" = "$number" ]
  done
  say compiled ;;
build)
  # As a DeepSpeed operation is built: several objects in parallel, one library.
  need g++
  need make
  for number in 1 2 3 4; do echo "int f$number() { return $number; }" >"op$number.cpp"; done
  printf 'op.so: op1.o op2.o op3.o op4.o\n\tg++ -shared -o $@ $^\n%%.o: %%.cpp\n\tg++ -fPIC -c $< -o $@\n' >Makefile
  make -s -j4
  /usr/bin/python3 -c "import ctypes; ctypes.CDLL('./op.so')"
  say built ;;
ray)
  # A job is a shell with a watchdog that ends the group when its parent goes.
  exec 5<>/dev/tcp/198.51.100.3/6379
  echo PING >&5
  sh -c 'sleep 1' &
  job=$!
  sh -c "while kill -s 0 $job 2>/dev/null; do sleep 0.1; done" &
  watchdog=$!
  wait $job $watchdog || true
  exec 5>&-
  say ended ;;
notebook)
  for command in 'ls -la' 'git status' 'python3 -m pip list' 'nvidia-smi' 'uname -a' 'df -h .'; do
    /usr/bin/python3 -c 'import os, sys; os.system(sys.argv[1] + " >/dev/null 2>&1")' "$command"
  done
  say ran ;;
install)
  # A package of one's own, editable, without a network.
  /usr/bin/python3 -m venv --without-pip environment || cannot venv
  mkdir -p package/demo
  touch package/demo/__init__.py
  printf '[build-system]\nrequires = []\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "demo"\nversion = "1"\n' >package/pyproject.toml
  python3 -c 'import setuptools' 2>/dev/null || cannot setuptools
  python3 -m pip --python environment/bin/python install --quiet --no-index --no-build-isolation \
    --no-deps --disable-pip-version-check --editable package >install.log 2>&1 || {
    tail -3 install.log >&2
    cannot 'a pip that can install without a network'
  }
  say installed ;;
clone)
  # As runc protects itself: a copy of the program in memory is executed.
  /usr/bin/python3 - <<'END'
import os
fd = os.memfd_create("runc_cloned:/proc/self/exe")
with open("/bin/true", "rb") as file:
    os.write(fd, file.read())
os.execve(fd, ["runc", "init"], {})
END
  say cloned ;;
probe)
  # A kubelet's exec probe.
  for _ in $(seq 8); do sh -c 'test -d / && cat /proc/loadavg >/dev/null'; done
  say probed ;;
look)
  # What libraries ask of a host when they start.
  for command in 'ldconfig -p' lscpu 'git rev-parse HEAD' 'cat /proc/cpuinfo' 'ip -brief link'; do
    sh -c "$command" >/dev/null 2>&1 || true
  done
  say looked ;;
warm)
  # A start script reads the model once, so that it is in memory when it is mapped.
  cat "$STAND_MODEL" >/dev/null
  say warmed ;;
upgrade)
  # Another program with BPF looks at the host, and goes.
  "$STAND_GPUWARDEN" doctor >doctor.txt 2>&1 || true
  grep -qi sensor doctor.txt
  say asked ;;
esac
