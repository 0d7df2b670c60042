"""When to make a value anew before it is over, and how long to keep it: pure functions of chance.

Values that were made together would be over together, and then be made again together. So each is kept for a little
less than its time to live (`jittered`). And a value that many ask for is made again a little before it is over, by one
of those who ask, chosen by chance: the nearer the end, and the longer the making takes, the more likely. That is
XFetch (Vattani, Chierichetti and Lowenstein, *Optimal Probabilistic Cache Stampede Prevention*, VLDB 2015), which
needs no word between those who ask.
"""

import math

__all__ = ["due_early", "jittered"]


def due_early(left_seconds: float, make_seconds: float, *, beta: float, chance: float) -> bool:
    """Whether one who finds the value now should make it anew.

    Args:
        left_seconds: until the value is over.
        make_seconds: how long making it took.
        beta: 1 is the optimum of the paper; more is earlier; 0 never.
        chance: drawn evenly from 0 up to, and without, 1.
    """
    return -make_seconds * beta * math.log1p(-chance) >= left_seconds


def jittered(seconds: float, *, jitter: float, chance: float) -> float:
    """For how long to keep a value: `seconds`, less a part of it that is `jitter` at most."""
    return seconds * (1 - jitter * chance)
