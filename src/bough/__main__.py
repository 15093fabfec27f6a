"""`python -m bough` is the `bough` command."""

from bough.surfaces.cli.main import main

main()
