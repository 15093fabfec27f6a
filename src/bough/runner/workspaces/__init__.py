"""Gives each agent a git worktree of its own and sees that no work is lost.

`workspace` makes and saves one, `removal` takes it away, `worktree` is git's side of it, `changes`
shows what an agent did, `merge` brings it into a branch, `git` runs git. `retention` says which go,
`leftovers` what nobody owns, `disk` how much they take. Knows neither agents nor the database.
"""
