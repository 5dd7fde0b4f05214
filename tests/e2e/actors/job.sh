#!/bin/sh
# A batch job as a scheduler starts one: a shell that runs a program and waits for it.
cd "$(dirname "$0")" || exit 1
script=$1
shift
PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$script" "$@"
status=$?
exit "$status"
