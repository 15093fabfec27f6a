"""Numbers as people write them: tokens (2000, 30k, 1.5M) and times (90s, 15m, 2h, 1d).

Raises ValueError with one line that says what is accepted.
"""

import re

_TOKENS = re.compile(r"(\d[\d_]{0,24})(?:\.(\d{1,9}))?\s*([kKmMgG]?)", re.ASCII)
_ZEROS = {"": 0, "k": 3, "m": 6, "g": 9}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TEN_YEARS_S = 315_360_000


def tokens_of(text: str) -> int:
    """A whole number of at least 1 token."""
    found = _TOKENS.fullmatch(text.strip())
    # Counted in billionths: a float would round what is large.
    whole, part, unit = found.groups("") if found else ("0", "", "")
    billionths = int(whole + part.ljust(9, "0")) * 10 ** _ZEROS[unit.lower()]
    number, rest = divmod(billionths, 10**9)
    if not 1 <= number < 2**63 or rest:
        raise ValueError(
            f"'{text}' is no number of tokens; give a whole number from 1 to {2**63 - 1}, "
            "like 2000 or 30k"
        )
    return number


def seconds_of(text: str) -> int:
    """A time of at least one second and less than ten years, in whole seconds."""
    found = re.fullmatch(r"(\d{1,12})\s*([smhd]?)", text.strip(), re.ASCII)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds < _TEN_YEARS_S:
        raise ValueError(f"'{text}' is no duration; give one like 90s, 15m or 2h")
    return seconds
