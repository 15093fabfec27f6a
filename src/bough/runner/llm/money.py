"""What the model is told of its budget: at the start, when it changes by much, when little is left.

The last number that it was told stands in the conversation, so nothing is told twice.
"""

from dataclasses import dataclass

from bough.client.bound import LEAST_OUTPUT

_THRESHOLDS = (0.5, 0.25, 0.1, 0.05)
_MUCH = 0.25
_ROOM = 2_000


@dataclass(frozen=True, slots=True)
class Told:
    """A line for the model; `little` when it should come to an end."""

    text: str
    left: int
    little: bool


def left(allocated: int, available: int, *, last_call: int) -> Told:
    """How much is left, whatever was told before. last_call: tokens of the last call, 0: none."""
    # The next call has at least the input of the last one, and needs room for an answer.
    needed = last_call + _ROOM + min(LEAST_OUTPUT, allocated // 20)
    little = (bool(last_call) and available < 2 * needed) or available < allocated // 20
    text = f"[budget: {available:,} of {allocated:,} tokens are left"
    if little:
        text += ", enough for about one more answer: call finish now, with what you have"
    return Told(f"{text}]", available, little)


def note(
    allocated: int, available: int, *, told: int, told_little: bool, last_call: int
) -> Told | None:
    """What to say now; None when nothing has changed by much since `told`."""
    now = left(allocated, available, last_call=last_call)
    crossed = any(available < part * allocated <= told for part in _THRESHOLDS)
    changed = abs(available - told) > _MUCH * allocated
    return now if crossed or changed or (now.little and not told_little) else None
