"""How many tokens a call to a model can have at most, and how short an answer may be cut.

A token of a byte-level tokenizer covers at least one byte, so the bytes of a request bound its
tokens, but for what templates add and for tokenizers that normalise text by NFKC first.
"""

import unicodedata

TEMPLATE_TOKENS = 1_024
"""What a provider's template, with tools, adds to a request at most."""
LEAST_OUTPUT = 4_000
"""An answer shorter than this is cut in the middle of something, and billed all the same."""
REFUSAL = "Bough refuses this call: "
"""How every refusal of a call by its budget begins, whoever refuses it."""
_PIECE = 1_000_000


def least_output(allocated: int, wanted: int) -> int:
    """The least room for an answer for which a call is made: less of a small account."""
    return min(wanted, LEAST_OUTPUT, max(allocated // 20, 16))


def encoded(text: str) -> bytes:
    """UTF-8, lone surrogates included: JSON can hold them."""
    return text.encode("utf-8", "surrogatepass")


def size(text: str) -> int:
    """The most tokens a text can have."""
    if text.isascii():
        return len(text)
    total = 0
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        normal = unicodedata.normalize("NFKC", piece)
        total += max(len(encoded(piece)), len(encoded(normal)))
    return total
