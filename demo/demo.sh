#!/bin/sh
# Runs one agent on a scratch clone of REPO and merges what it did. REPO itself is only read.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "${REPO:-.}" && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/bough-demo-XXXXXX")
python=$(dirname "$BOUGH")/python

say() {
  if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi
}

say "1. A scratch clone of $repo"
git clone -q --no-hardlinks "$repo" "$scratch/repo"
cd "$scratch/repo"
git checkout -q -B demo
git log -1 --format='%h %s'

say "2. An agent in a worktree of its own, with a budget of 20k tokens"
"$BOUGH" run "give long pages a list of contents, tidy the rest" --role editor --budget 20k --json \
  -- "$python" "$here/tidy.py" > "$scratch/agent.json"
id=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["id"][:8])' "$scratch/agent.json")

say "3. What came of it: bough show $id"
"$BOUGH" show "$id"

say "4. What it changed: bough diff --stat $id"
"$BOUGH" diff --stat "$id"

say "5. Merged: bough merge $id"
"$BOUGH" merge "$id"
git log --oneline --graph -4

say "What next"
echo "look at it:  cd $scratch/repo && git show --stat -m HEAD"
echo "your own:    cd YOUR/REPOSITORY && $BOUGH run \"what to do\" -- YOUR-PROGRAM {task}"
