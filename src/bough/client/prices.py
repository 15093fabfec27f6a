"""What a call cost in US dollars, by a price list that others keep (genai-prices).

The list is loaded at the first question only. A model that it does not know has no cost: unknown,
never 0. What gave the cost is kept beside it, so that a later list changes nothing that was paid.
"""

from dataclasses import replace
from importlib.metadata import version

from bough.client.budgets import Usage


def priced(usage: Usage, *, provider: str | None = None) -> Usage:
    """The usage with its cost and prices, or as it was when either is not known.

    `input_tokens` counts what was read neither from nor into a cache.
    """
    from genai_prices import Usage as Counts
    from genai_prices import calc_price

    if usage.model is None or usage.input_tokens is None:
        return usage
    read, written = usage.cache_read_tokens or 0, usage.cache_write_tokens or 0
    counts = Counts(
        input_tokens=usage.input_tokens + read + written,
        output_tokens=usage.output_tokens or 0,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
    try:
        found = calc_price(counts, usage.model, provider_id=provider)
    except (LookupError, ValueError):
        return usage
    prices = {
        "provider": found.provider.id,
        "model": found.model.id,
        "per_million": str(found.model_price),
        "source": f"genai-prices {version('genai-prices')}",
    }
    return replace(usage, cost_usd=found.total_price, prices=prices)


def warm() -> None:
    """Load the price list, which takes about a second, before somebody waits for a cost."""
    priced(Usage(tokens=1, input_tokens=1, output_tokens=0, model="gpt-4o"))
