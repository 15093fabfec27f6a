"""Roles: prompts with defaults for budget, program, limits and tools, in files people have already.

`front_matter` reads a file apart, `role` makes a role of it, `library` finds them all, `briefing`
says what a program is told. `builtin/` holds the roles that come with Bough. Imports nothing.
"""
