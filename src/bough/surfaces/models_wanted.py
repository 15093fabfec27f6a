"""How programs are to reach models, by the environment of the process that runs them.

BOUGH_GATEWAY_URL names a gateway that runs elsewhere; `none` leaves programs to themselves. Without
it the process serves what it has keys or addresses for, and nothing when it has none.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from bough.client.errors import BadConfiguration
from bough.gateway.settings import Settings, taken


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A gateway that somebody else runs."""

    url: str


Models = Settings | Elsewhere | None
"""A gateway of our own, one elsewhere, or none."""


def models_wanted(environ: MutableMapping[str, str]) -> Models:
    """What the environment says; keys for a gateway of our own are taken out of it.

    Raises BadConfiguration.
    """
    url = environ.get("BOUGH_GATEWAY_URL", "").strip().rstrip("/")
    if url == "none":
        return None
    if url:
        where = urlsplit(url)
        if where.scheme not in ("http", "https") or not where.hostname:
            raise BadConfiguration(
                f"BOUGH_GATEWAY_URL is '{url}'; give the address that bough serve printed, or none"
            )
        return Elsewhere(url)
    settings = taken(environ)
    return settings if settings.upstreams else None
