"""The figures that move: transfers and their amounts, counted from the journal and pushed to whoever watches.

They are sums over all customers and tell nothing of a single one, so anybody may watch. The books themselves (`books`)
are asked for each second; these come when there are new ones.
"""

from typing import Final

from workhorse.analytics.live import Live, LiveStream
from workhorse.analytics.measures import Measure, Measures

__all__ = ["SPAN", "live", "measures", "stream"]

SPAN: Final = "10 minutes"

measures: Final = Measures(
    [Measure("transfers", of="transfer.posted", by=("currency",), window="5 seconds", sum="amount")],
)
"""How many, and what they moved, in minor units."""
live: Final = Live(measures)
stream: Final[LiveStream] = live.stream("transfers", span=SPAN)
