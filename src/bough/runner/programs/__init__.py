"""Starts an agent's program, watches it and sees that nothing of it survives.

`program` is the face; `keeper` and `nursery` are the processes around it, `handover` passes its
output on, `output` reads that, `strays` finds what a dead runner left, `executable` finds the file.
Imports nothing: the nursery starts with the standard library alone.
"""
