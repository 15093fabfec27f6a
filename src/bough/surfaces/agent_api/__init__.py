"""The door for programs inside agents: HTTP on loopback, a token for everything, own subtree only.

`server` opens it, `guard` checks who asks, `calls` does what is asked.
"""
