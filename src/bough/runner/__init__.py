"""Claims agents, makes their worktrees, drives and supervises their programs.

`runner` claims and obeys, `job` takes one agent from its worktree to its end, `plan` makes a spawn
of what is asked for, `drivers` say how to start it and `launch` puts the files there; `presets/`
are drivers of agent programs, `acp` drives any that speaks the Agent Client Protocol, `llm/` is the
built-in agent; `function` runs a Python function as an agent, `context` and `talk` are its words,
`journal` its recorded steps. `lineage` says where a child starts in git, `merging` brings work into
branches by way of the queue that `merge_queue` works off, `resolving` hands conflicts on,
`collection` takes away what nobody uses. `roles/` reads roles, `workspaces/` holds everything about
git, `programs/` everything about processes. Imports nothing.
"""
