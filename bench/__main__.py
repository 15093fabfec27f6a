"""`make bench`: every measure, one after the other."""

import asyncio

from bench import calls, command, inside, mail, merges, start, tokens


async def main() -> None:
    """Run them all."""
    for module in (calls, tokens, mail, inside, start, merges, command):
        print(f"\n{(module.__doc__ or '').splitlines()[0]}", flush=True)
        await module.main()


asyncio.run(main())
