"""The most input tokens a call can have, known before it is made.

A token of a byte-level tokenizer covers at least one byte, so the bytes of the request bound its
tokens, but for three things: what templates add (a constant), tokenizers that normalise text by
NFKC first (the longer of both forms counts), and images (a constant each). What the provider
counted before is exact: a request that goes on from one that was counted costs that number and
the bytes of what is new. Context windows bound nothing here: a list of them may be older than
the model.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from bough.client.bound import TEMPLATE_TOKENS, encoded, size
from bough.gateway.asked import Asked, Item

JOIN_TOKENS = 256
"""What it adds where a conversation goes on."""
_ITEM_TOKENS = 8
_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class Bound:
    """The most input tokens of a call, and the name under which its exact number is kept."""

    tokens: int
    name: bytes


class Bounds:
    """Bounds of calls to one provider; remembers what the provider counted, the latest 20,000."""

    def __init__(self, image_tokens: int) -> None:
        self._image_tokens = image_tokens
        self._counted: OrderedDict[bytes, int] = OrderedDict()

    def of(self, asked: Asked) -> Bound:
        """The bound of a call."""
        name = hashlib.sha256(encoded(asked.head)).digest()
        whole = size(asked.head) + TEMPLATE_TOKENS + asked.extra_tokens
        best = whole
        for item in asked.items:
            name = hashlib.sha256(name + encoded(item.text)).digest()
            more = self._size(item, asked)
            whole += more
            best += more
            known = self._counted.get(name)
            if known is not None:
                self._counted.move_to_end(name)
                best = min(best, known + JOIN_TOKENS)
        return Bound(min(whole, best), name)

    def learn(self, bound: Bound, input_tokens: int) -> None:
        """Keep what the provider counted for a call."""
        self._counted[bound.name] = input_tokens
        self._counted.move_to_end(bound.name)
        while len(self._counted) > _REMEMBERED:
            self._counted.popitem(last=False)

    def _size(self, item: Item, asked: Asked) -> int:
        images = item.images * (
            # This model counts an image 33 times.
            max(self._image_tokens, 50_000)
            if asked.model.startswith("gpt-4o-mini")
            else self._image_tokens
        )
        return size(item.text) + _ITEM_TOKENS + images
