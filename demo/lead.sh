#!/bin/sh
# The root of the demo's team: two coordinators, each with a part of the budget and of the work.
set -eu
bough report "giving out the work"
pages=$(bough spawn "pages: contents, inventory" --role coordinator --budget 90k \
  -- sh "$DEMO_HERE/part.sh" contents inventory)
code=$(bough spawn "code: history, largest files" --role coordinator --budget 90k \
  -- sh "$DEMO_HERE/part.sh" history largest)
bough wait "$pages" "$code"
bough merge "$pages"
bough merge "$code"
bough ack --all
bough report --progress 1 "merged both parts"
bough finish --result "{\"parts\": 2, \"commit\": \"$(git rev-parse --short HEAD)\"}"
