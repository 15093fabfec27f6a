"""Claims agents, makes their worktrees, drives and supervises their programs.

`runner` claims and obeys, `job` takes one agent from its worktree to its end, `drivers` say what to
start; `function` runs a Python function as an agent, `context` and `talk` are its words, `journal`
its recorded steps, `lineage` where a child starts in git. `merging` brings agents' work into
branches by way of the queue that `merge_queue` works off, `resolving` hands conflicts on,
`collection` takes away what nobody uses any more. `workspaces/` holds everything about git,
`programs/` everything about processes. Imports nothing.
"""
