"""The domain API: one async method per kernel function, rows, errors, connections, hints.

`client`, `budgets`, `mail` and `runner_calls` speak to the kernel; `prices` knows what calls cost;
`database` finds and opens it; `embedded` and the `postgres_*` modules run a private server;
`hints` wakes who waits; `patience` waits for tokens.
"""
