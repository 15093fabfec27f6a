"""Gives each agent a git worktree of its own and sees that no work is lost.

`create` makes one, `pool` keeps spares, `furnish` and `submodules` bring what git leaves out,
`workspace` saves, `removal` takes away, `worktree` is git's side of it, `changes` shows what an
agent did, `git` runs git, `settings` reads bough.toml. `retention` says which go, `leftovers` what
nobody owns, `disk` how much they take. Merging: `batch` brings works onto a branch by `line`s of
steps, which `strategies` makes (`trees`, `commits`) and `trial` judges in a `checkout`; `target`
moves the branch, `queue_lock` is waited for, `merge` is a batch of one; `bases` merges what an
agent starts from. Knows neither agents nor the database.
"""
