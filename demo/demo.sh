#!/bin/sh
# A team of seven agents on three levels tidies a scratch clone of REPO; REPO itself is only read.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "${REPO:-.}" && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/bough-demo-XXXXXX")
DEMO_PYTHON=$(dirname "$BOUGH")/python
DEMO_HERE=$here
PATH=$(dirname "$BOUGH"):$PATH
export DEMO_PYTHON DEMO_HERE PATH

say() {
  if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi
}

say "1. A scratch clone of $repo"
git clone -q --no-hardlinks "$repo" "$scratch/repo"
cd "$scratch/repo"
git checkout -q -B demo
git log -1 --format='%h %s'

say "2. A runner, and a lead with 200k tokens: demo/lead.sh spawns two coordinators, they four workers"
bough runner --slots 4 2> "$scratch/runner.log" &
runner=$!
trap 'kill $runner 2>/dev/null || :; wait $runner 2>/dev/null || :' EXIT
id=$(bough spawn "put this repository in order" --role lead --budget 200k -- sh "$here/lead.sh")
bough tree --follow "$id"

say "3. Results and budgets came up: bough show $(echo "$id" | cut -c1-8)"
bough show "$id"

say "4. Every movement of the lead's tokens: bough budget --ledger"
bough budget "$id" --ledger

say "5. What the team changed: bough diff --stat"
bough diff --stat "$id"

say "6. One branch, merged: bough merge"
bough merge "$id"
git log --oneline --graph -12

say "What next"
echo "look at it:  cd $scratch/repo && git show --stat -m HEAD"
echo "your own:    cd YOUR/REPOSITORY && $BOUGH run \"what to do\" -- YOUR-PROGRAM {task}"
