#!/bin/sh
# A coordinator of the demo: one worker for each word; their work is merged into its own branch.
set -eu
workers=""
for work in "$@"; do
  workers="$workers $(bough spawn "$work" --role worker --budget 40k \
    -- "$DEMO_PYTHON" "$DEMO_HERE/worker.py" "$work")"
done
# shellcheck disable=SC2086
bough wait $workers
for worker in $workers; do
  bough merge "$worker"
done
bough inbox
bough ack --all
bough finish --result "{\"workers\": $#}"
