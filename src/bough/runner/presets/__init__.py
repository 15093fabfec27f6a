"""Presets: agent programs that people have, each a driver with its command line and its files.

`preset` is what all share, `table` is the list of them; one module a program, or a few that are
alike. A new one is a function and an entry in PRESETS. Imports nothing.
"""
