"""Gives each agent a git worktree of its own and sees that no work is lost.

`workspace` makes, saves and removes one, `worktree` is git's side of it, `changes` shows what an
agent did, `git` runs git, `settings` reads bough.toml. Merging: `batch` brings works onto a branch
by `line`s of steps, which `strategies` makes (`trees`, `commits`) and `trial` judges in a
`checkout`; `target` moves the branch, `queue_lock` is waited for, `merge` is a batch of one. Knows
neither agents nor the database.
"""
