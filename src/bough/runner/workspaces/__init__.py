"""Gives each agent a git worktree of its own and sees that no work is lost.

`workspace` makes, saves and removes one, `worktree` is git's side of it, `changes` shows what an
agent did, `merge` brings it into a branch, `git` runs git. Knows neither agents nor the database.
"""
