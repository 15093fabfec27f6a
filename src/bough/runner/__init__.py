"""Claims agents, makes their worktrees, drives and supervises their programs.

`runner` claims and obeys, `job` takes one agent from its worktree to its end, `drivers` say what to
start; `function` runs a Python function as an agent, `context` and `talk` are its words, `journal`
its recorded steps. `program` and its helpers (`nursery`, `keeper`, `strays`) see that nothing
survives; `git`, `workspace`, `changes`, `merge` and `lineage` see that no work is lost. Imports
nothing: the nursery starts with the standard library alone.
"""
