"""A handler that takes many requests at once.

    @batched
    async def post_transfers(work: Work, orders: Sequence[TransferOrder]) -> Sequence[Transfer | Problem]:
        ...                                     one statement for all of them

    @api.post("/transfers", status_code=201)
    async def transfer(order: TransferOrder) -> Transfer:
        return await post_transfers(order)

    Policy("POST /transfers", idempotent="required", batched=True)

Each request waits for its own outcome, and none for a timer: see `lanes`. How one batch is done is in `rounds`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload
from weakref import WeakKeyDictionary

from workhorse.batches.member import Answered, BatchFull, Member
from workhorse.batches.meters import BatchMeters
from workhorse.batches.rounds import Function, RoundOptions, Rounds
from workhorse.bridge import in_trio
from workhorse.context import CURRENT
from workhorse.errors import SettingsError, UnitError
from workhorse.units.exchange import Exchange
from workhorse.units.work import current_opener

if TYPE_CHECKING:
    from workhorse.contracts import Database

__all__ = ["Batched", "batched"]

C = TypeVar("C")
O = TypeVar("O")  # noqa: E741 - an outcome

MAX_LANES: Final = 16
MAX_AT_MOST: Final = 4_096
MAX_REPLY_SECONDS: Final = 60


class Batched(Generic[C, O]):
    """A function of many commands, called with one (see `batched`)."""

    def __init__(self, function: Function[C, O], options: RoundOptions) -> None:
        if not 1 <= options.lanes <= MAX_LANES or not 1 <= options.at_most <= MAX_AT_MOST:
            raise SettingsError(
                f"lanes={options.lanes}, at_most={options.at_most}: 1 to {MAX_LANES} lanes take 1 to {MAX_AT_MOST}"
                " commands each"
            )
        if options.max_waiting < options.at_most or not 0 < options.reply_seconds <= MAX_REPLY_SECONDS:
            raise SettingsError(
                f"max_waiting={options.max_waiting}, reply_seconds={options.reply_seconds:g}: at least as many may wait"
                f" as one lane takes ({options.at_most}), and a reply takes at most {MAX_REPLY_SECONDS} seconds"
            )
        self.function = function
        """The function itself, to be called with a unit and a list: in a script, or in a unit of one's own."""
        self._options = options
        self._rounds: WeakKeyDictionary[Database, Rounds[C, O]] = WeakKeyDictionary()
        update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<batched {self.function.__qualname__}>"

    async def __call__(self, command: C) -> O:
        """Have one command done with those of others, and return its outcome once its batch has been done.

        It is committed with the reply of this request, as every unit is.

        Raises:
            Problem: the outcome, where the function refused the command; or 503 where too many wait.
            NoUnit: no request is being served here.
            UnitError: the request has a unit of its own.
        """
        if in_trio():
            from workhorse.bridge.calls import on_asyncio  # noqa: PLC0415 - Trio is there only where an app runs on it

            return await on_asyncio(self.__call__, command)
        exchange = current_opener()
        name = self.function.__qualname__
        if not isinstance(exchange, Exchange):
            raise UnitError(
                f"{name}() takes one command from a handler; elsewhere call {name}.function(work, commands) in a unit"
            )
        exchange.check_joins(name)
        member: Member[C, O] = Member(command, claim=exchange.claim, request=CURRENT.get(None), alone=exchange.repeated)
        if not self._rounds_on(exchange).put(member):
            raise BatchFull
        try:
            return await member.outcome
        except Answered as answered:
            await exchange.answer(answered.row)
            raise
        finally:
            if member.work is not None:
                exchange.join(member.work.transaction, member.work)

    def _rounds_on(self, exchange: Exchange) -> Rounds[C, O]:
        rounds = self._rounds.get(exchange.database)
        if rounds is None:
            options = replace(
                self._options, keep_seconds=exchange.rules.keep_seconds, wait_seconds=exchange.rules.wait_seconds
            )
            meters = BatchMeters(exchange.rules.metrics, self.function.__qualname__)
            rounds = self._rounds[exchange.database] = Rounds(self.function, exchange.database, options, meters)
        return rounds


@overload
def batched(function: Function[C, O], /) -> Batched[C, O]: ...


@overload
def batched(
    *, lanes: int = 2, at_most: int = 256, max_waiting: int = 4_096, reply_seconds: float = 2.0
) -> Callable[[Function[C, O]], Batched[C, O]]: ...


def batched(
    function: Function[Any, Any] | None = None,
    /,
    *,
    lanes: int = 2,
    at_most: int = 256,
    max_waiting: int = 4_096,
    reply_seconds: float = 2.0,
) -> Any:
    """Make a function of many commands one that handlers call with one.

    The function gets a unit and the commands of all that wait, and returns one outcome for each, in their order: the
    result, or a `Problem` for a command that it refuses and of which it has written nothing, or `Kept(problem)` for a
    refusal that a retried Idempotency-Key is to get again. What it raises is the end of the whole batch, which is then
    tried in halves. It may be called several times with the same commands, each time in a new transaction.

    Args:
        function: the function.
        lanes: how many batches are under way at a time, each on a connection of its own.
        at_most: how many commands one batch takes.
        max_waiting: how many may wait; more are refused with 503.
        reply_seconds: how long a handler may take from its outcome to its reply, which holds up the others.

    Raises:
        SettingsError: a bound makes no sense.
    """

    def wrap(wrapped: Function[Any, Any]) -> Batched[Any, Any]:
        options = RoundOptions(lanes=lanes, at_most=at_most, max_waiting=max_waiting, reply_seconds=reply_seconds)
        return Batched(wrapped, options)

    return wrap if function is None else wrap(function)
