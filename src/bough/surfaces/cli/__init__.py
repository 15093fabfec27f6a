"""The `bough` command. `main` finds a verb, each other module holds a few verbs of one kind.

No module is imported before a verb needs it: `bough ps` loads neither rich nor the runner.
"""
