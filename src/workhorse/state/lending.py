"""Cells taken ahead in one round trip, and handed out without any: for callers far from their limit.

A process that sees a caller often takes a few of its cells at once from the shared store: a loan. They are charged
before they are handed out, so however many processes lend, no cell is handed out twice. Three rules keep a loan
from breaking the limit, or a caller from suffering by it.

**Time.** A cell that is charged now and handed out later is used when its charge has begun to fill up again: C cells
from the refilled counter and the loan on top would pass at once. So a loan melts as the counter refills. Say that the
charge left the counter full again at F (the grant tells: the time of asking plus `reset_us`). Then at the time u no
more than (F - u) / interval cells of the loan are left; the rest has refilled in the store and is lost here. With that,
in any span of t microseconds, over all processes, at most capacity + t / interval are admitted:

    Take those charges, in the store's order, of which cells are used between a and b. After the first one, whose
    first use in the span is at u >= a, the counter's TAT is F >= u + (cells used from u on) * interval, by the rule,
    and so >= a + (its cells in the span) * interval. Each further charge adds at least an interval for each of its
    cells. No charge is later than the use of its cells, so the last one left the TAT at b + capacity * interval at
    most. Hence a + n * interval <= b + capacity * interval.

The process reckons F from when it asked, not from when the store decided, so it errs on the safe side. It needs no
clock in common with the store, only one that runs as fast: a machine that sleeps with a loan may hand out that one
late.

**Size.** A loan is what was lately asked of this counter through this process in a span of `life_seconds`, and beside
it what will melt in that time: a caller who asks for a tenth of what a limit allows would else find that nine tenths of
a loan had melted before it asked again. It is at most an eighth of what remains, and `max_cells`; and it is not handed
out after `life_seconds`. A counter of which one cell was asked for gets no loan.

**Distance.** The store itself refuses a loan that would leave the counter more than half used. Then, and always near
the limit, each request asks the store.

What can be lost: the cells of a loan that are not asked for before it ends. They are charged for nothing, so a caller
may be refused early by as many requests: per loan an eighth of what remained, over all loans and processes at most half
the capacity; the other half is counted exactly. What was lost fills up again with the rest, and a melted cell has done
so already. The sustained rate of a caller at its limit is never lowered, because nothing is lent there.

`forget` reaches the store and this process: another one may hand out what it has on loan until that ends.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from workhorse.contracts import CounterStore, Exactness, Grant
from workhorse.errors import SettingsError, StoreUnavailable
from workhorse.rate import Quota
from workhorse.state.clock import monotonic_us
from workhorse.state.gcra import check_take, take_one

__all__ = ["LendingCounters"]

# Loans of others that one take waits for, one after the other, before it asks the store itself.
PATIENCE: Final = 3
# A loan is at most this part of what remains.
SHARE: Final = 8


@dataclass(slots=True)
class Loan:
    """Cells that the store has charged, and this process may hand out."""

    cells: int
    interval_us: int
    full_us: int
    """When the counter would be full again after this charge; never later than it will be."""
    ends_us: int
    held: int = 0
    """Cells promised to requests that wait for another counter's word: each is used, or comes back."""

    def usable(self, now_us: int) -> int:
        """How many can be handed out now."""
        if now_us >= self.ends_us:
            return 0
        return min(self.cells, (self.full_us - now_us) // self.interval_us - self.held)

    def hand_out(self, cost: int, now_us: int) -> None:
        """Hand out `cost` of the usable cells. Those that have melted never come back."""
        self.cells = self.usable(now_us) - cost

    def hold(self, cost: int, now_us: int) -> None:
        """Promise `cost` of the usable cells."""
        self.hand_out(cost, now_us)
        self.held += cost

    def settle(self, cost: int, *, used: bool) -> None:
        """Keep a promise, or take it back."""
        self.held -= cost
        if not used:
            self.cells += cost


@dataclass(slots=True, eq=False)
class Account:
    """What this process knows of one counter."""

    loan: Loan | None = None
    flight: asyncio.Future[bool] | None = None
    """A round trip that will bring a loan; False if the store turned out to be away."""
    full_us: int | None = None
    """When the counter is full again, as last heard of."""
    began_us: int = 0
    asked: int = 0
    """Cells asked for since `began_us`, and below in the span of the same length before."""
    asked_before: int = 0

    def covers(self, quota: Quota, cost: int, now_us: int) -> bool:
        """Whether the loan is enough."""
        loan = self.loan
        return loan is not None and loan.interval_us == quota.interval_us and loan.usable(now_us) >= cost

    def note(self, cost: int, now_us: int, span_us: int) -> None:
        """Count what is asked for, in spans of `span_us`."""
        if (elapsed := now_us - self.began_us) >= span_us:
            self.asked_before = self.asked if elapsed < 2 * span_us else 0
            self.asked, self.began_us = 0, now_us
        self.asked += cost

    def describe(self, quota: Quota, now_us: int) -> Grant:
        """The grant of a request that the loan admitted."""
        ahead_us = max(0, (self.full_us or 0) - now_us)
        here = max(0, self.loan.usable(now_us)) if self.loan else 0
        there = max(0, quota.capacity - -(-ahead_us // quota.interval_us))
        return Grant(admitted=True, remaining=min(quota.capacity, there + here), retry_after_us=0, reset_us=ahead_us)


def loan_size(account: Account, quota: Quota, now_us: int, *, life_us: int, max_cells: int) -> int:
    """How many cells to charge at once, the asking request's own included; 1: no loan."""
    if account.full_us is None or account.flight is not None:
        return 1  # nothing is known of it yet, or a loan is on its way
    if account.loan is not None and account.loan.held:
        return 1  # a new loan would replace the one to which they may come back
    lately = max(account.asked, account.asked_before)
    if lately < 2:
        return 1
    ahead_us = max(0, account.full_us - now_us)
    # What is charged already melts first.
    melting = max(0, life_us - ahead_us) // quota.interval_us
    remaining = quota.capacity - -(-ahead_us // quota.interval_us)
    nearer = (half_depth_us(quota) - ahead_us) // quota.interval_us
    return max(1, min(lately + melting, remaining // SHARE, nearer, max_cells))


def half_depth_us(quota: Quota) -> int:
    """How far ahead a loan may leave the counter."""
    return quota.capacity * quota.interval_us // 2


def charged_at_once(quota: Quota, cells: int) -> Quota:
    """The same counter, of which a cost of 1 takes `cells`, and which refuses when that leaves it more than half used.

    The store keeps times only (see `gcra`), so it need not know of loans.
    """
    interval_us = cells * quota.interval_us
    return Quota(quota.key, interval_us, half_depth_us(quota) // interval_us)


class LendingCounters:
    """A `contracts.CounterStore` that asks a shared one less often.

    Args:
        store: counts over all processes.
        life_seconds: how long a loan is handed out at most; above 0, at most 5.
        max_cells: of one loan.
        max_keys: counters of which something is known; those that were not asked for the longest are left to the store.
        clock: microseconds on a clock that never goes back.

    Raises:
        SettingsError: the store counts for one process only, or a bound is out of range.
    """

    def __init__(
        self,
        store: CounterStore,
        *,
        life_seconds: float = 1.0,
        max_cells: int = 1_000_000,
        max_keys: int = 16_384,
        clock: Callable[[], int] = monotonic_us,
    ) -> None:
        if store.exactness is not Exactness.SHARED:
            raise SettingsError("only a store that all processes share lends: use one that counts in memory as it is")
        if not 0 < life_seconds <= 5 or max_cells < 2 or max_keys < 2:
            raise SettingsError(
                f"life_seconds={life_seconds:g}, max_cells={max_cells}, max_keys={max_keys}: a loan lives for more than"
                " 0 s and at most 5 s; it has 2 cells at least, and 2 keys at least can have one"
            )
        self._store = store
        self._life_us = int(life_seconds * 1_000_000)
        self._max_cells = max_cells
        self._clock = clock
        # Two generations: when the young one has half the keys it becomes the old one, and the old one is dropped.
        self._half = max_keys // 2
        self._young: dict[str, Account] = {}
        self._old: dict[str, Account] = {}

    @property
    def exactness(self) -> Exactness:
        """Over all processes: never over the limit; early by what the module's text says."""
        return Exactness.SHARED

    async def take(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant]:
        """Take `cost` from each quota, or from none: in no round trip where loans are enough, else in one.

        In two, where the store refuses a loan that it would have granted when it was last heard of. Takes of a counter
        for which a loan is on its way wait for that.

        Raises:
            StoreUnavailable: the store did not answer in time.
            ValueError: see `gcra.check_take`.
        """
        check_take(quotas, cost)
        accounts = [self._account(quota.key) for quota in quotas]
        if cost == 0:
            return await self._look(quotas, accounts)
        now_us = self._clock()
        for account in accounts:
            account.note(cost, now_us, self._life_us)
        for _ in range(PATIENCE):
            coming = {
                account.flight
                for account, quota in zip(accounts, quotas, strict=True)
                if account.flight is not None and not account.covers(quota, cost, now_us)
            }
            if not coming:
                break
            await asyncio.wait(coming)
            if not all(flight.result() for flight in coming):
                raise StoreUnavailable
            now_us = self._clock()
        if not all(account.covers(quota, cost, now_us) for account, quota in zip(accounts, quotas, strict=True)):
            return await self._ask(quotas, accounts, cost, now_us)
        grants: list[Grant] = []
        for account, quota in zip(accounts, quotas, strict=True):
            assert account.loan is not None
            account.loan.hand_out(cost, now_us)
            grants.append(account.describe(quota, now_us))
        return grants

    def take_at_once(self, quotas: Sequence[Quota], *, cost: int = 1) -> Sequence[Grant] | None:
        """Take `cost` from each quota where loans are enough for all of them; None: ask `take` (see `ReadyCounters`).

        Raises:
            ValueError: see `gcra.check_take`.
        """
        check_take(quotas, cost)
        accounts = [self._account(quota[0]) for quota in quotas]
        now_us = self._clock()
        for account, quota in zip(accounts, quotas, strict=True):
            if not account.covers(quota, cost, now_us):
                return None
        return self._hand_out(quotas, accounts, cost, now_us) if cost else None

    def take_cell(self, key: str, interval_us: int, capacity: int) -> tuple[int, int] | None:
        """Take one cell of the loan of one counter (see `memory.cells.Cells.take_cell`); None where there is none."""
        account = self._young.get(key)
        if account is None or account.loan is None:
            return None
        loan = account.loan
        now_us = self._clock()
        cells = loan.usable(now_us)
        if cells < 1 or loan.interval_us != interval_us:
            return None
        account.note(1, now_us, self._life_us)
        loan.cells = here = cells - 1
        ahead_us = max(0, (account.full_us or 0) - now_us)
        there = max(0, capacity - -(-ahead_us // interval_us))
        return min(capacity, there + here), ahead_us

    def _hand_out(
        self, quotas: Sequence[Quota], accounts: Sequence[Account], cost: int, now_us: int
    ) -> Sequence[Grant]:
        """Take from loans that are known to be enough."""
        grants: list[Grant] = []
        for account, quota in zip(accounts, quotas, strict=True):
            assert account.loan is not None
            account.note(cost, now_us, self._life_us)
            account.loan.hand_out(cost, now_us)
            grants.append(account.describe(quota, now_us))
        return grants

    async def forget(self, keys: Sequence[str]) -> None:
        """Make the counters full again, and drop what this process has of them on loan.

        Raises:
            StoreUnavailable: the store did not answer in time.
        """
        for key in keys:
            self._young.pop(key, None)
            self._old.pop(key, None)
        await self._store.forget(keys)

    async def _look(self, quotas: Sequence[Quota], accounts: Sequence[Account]) -> Sequence[Grant]:
        grants = await self._store.take(quotas, cost=0)
        now_us = self._clock()
        here = [max(0, account.loan.usable(now_us)) if account.loan else 0 for account in accounts]
        return [
            grant._replace(remaining=min(quota.capacity, grant.remaining + cells))
            for grant, quota, cells in zip(grants, quotas, here, strict=True)
        ]

    async def _ask(
        self, quotas: Sequence[Quota], accounts: Sequence[Account], cost: int, now_us: int
    ) -> Sequence[Grant]:
        """Ask the store for what the loans do not cover, and for loans."""
        covered = [account.covers(quota, cost, now_us) for account, quota in zip(accounts, quotas, strict=True)]
        held = [account.loan for account, here in zip(accounts, covered, strict=True) if here and account.loan]
        asked = [place for place, here in enumerate(covered) if not here]
        sizes = {
            place: loan_size(accounts[place], quotas[place], now_us, life_us=self._life_us, max_cells=self._max_cells)
            for place in asked
            if cost == 1  # it is the same for all quotas of a take, so what costs more is asked for without a loan
        }
        loans = {place: size for place, size in sizes.items() if size > 1}
        flight: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        for loan in held:
            loan.hold(cost, now_us)
        for place in loans:
            accounts[place].flight = flight
        reached, admitted = True, False
        try:
            grants, lent = await self._round_trip(quotas, accounts, asked, loans, cost, now_us)
            admitted = all(grant.admitted for grant in grants.values())
            for place, cells in lent.items() if admitted else ():
                full_us = now_us + grants[place].reset_us
                accounts[place].loan = Loan(cells - 1, quotas[place].interval_us, full_us, now_us + self._life_us)
        except StoreUnavailable:
            reached = False
            raise
        finally:
            for loan in held:
                loan.settle(cost, used=admitted)
            for place in loans:
                accounts[place].flight = None
            flight.set_result(reached)
        now_us = self._clock()
        return [
            self._told(quotas[place], accounts[place], grants.get(place), cost, now_us, lent=place in lent)
            for place in range(len(quotas))
        ]

    async def _round_trip(
        self,
        quotas: Sequence[Quota],
        accounts: Sequence[Account],
        asked: Sequence[int],
        loans: dict[int, int],
        cost: int,
        now_us: int,
    ) -> tuple[dict[int, Grant], dict[int, int]]:
        """The store's grants by place, and the loans that were part of the question."""
        question = [
            charged_at_once(quotas[place], loans[place]) if place in loans else quotas[place] for place in asked
        ]
        grants = dict(zip(asked, await self._store.take(question, cost=cost), strict=True))
        refused = {place for place, grant in grants.items() if not grant.admitted}
        if refused and refused <= loans.keys():
            # Only as loans were they refused: others have used the counters since. Nothing was taken.
            now_us, loans = self._clock(), {}
            answer = await self._store.take([quotas[place] for place in asked], cost=cost)
            grants = dict(zip(asked, answer, strict=True))
        for place, grant in grants.items():
            accounts[place].full_us = now_us + grant.reset_us
        return grants, loans

    @staticmethod
    def _told(quota: Quota, account: Account, grant: Grant | None, cost: int, now_us: int, *, lent: bool) -> Grant:
        """What the caller is told of one quota."""
        if grant is None or (lent and grant.admitted):
            return account.describe(quota, now_us)
        if not lent:
            return grant
        # Refused because of another counter: as a loan, which says nothing of a single request.
        alone = take_one(grant.reset_us, 0, quota, cost)[1]
        return take_one(grant.reset_us, 0, quota, 0)[1] if alone.admitted else alone

    def _account(self, key: str) -> Account:
        account = self._young.get(key)
        if account is None:
            account = self._old.pop(key, None) or Account()
            if len(self._young) >= self._half:
                self._old, self._young = self._young, {}
            self._young[key] = account
        return account
