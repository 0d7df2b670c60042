"""Durable steps: a job of several transactions, which goes on after the last one that stands.

    @job()
    async def onboard(customer: int) -> None:
        account = await step("open account", open_account, customer)
        await step("order card", order_card, account)
        await step("welcome", welcome, customer, account)

Each step runs in a unit of its own, and its result is kept in the same transaction as its effects. When the job is run
again, a step that stands is not: its result is read instead. So each step has its effects exactly once, and a job that
lasts for long holds no transaction in between.

The steps of a job are told apart by their names. The code between them runs again each time: it should do nothing but
decide, by the arguments and the results.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, ParamSpec, TypeVar, cast, get_type_hints

import msgspec

from workhorse.jobs.arguments import encode_json, text_is_storable
from workhorse.jobs.current import current_job
from workhorse.jobs.errors import JobError
from workhorse.units import Unit, Work

__all__ = ["MAX_RESULT_BYTES", "step"]

MAX_RESULT_BYTES: Final = 64 * 1024
"""Of JSON. What is larger belongs into a table, and its id into the result."""
MAX_NAME: Final = 200
MAX_STEPS: Final = 1_000

P = ParamSpec("P")
R = TypeVar("R")


async def step(name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Run `function` in a unit of its own, once, whatever happens to the job.

    Args:
        name: tells the step apart from the others of this job. A step in a loop has its turn in its name.
        function: its result must be something that JSON can say. It comes back as what the function is annotated to
            return, also the first time.
        args: the function's.
        kwargs: the function's.

    Raises:
        NoJob: no job is being run here.
        JobError: two steps of this run have one name, there are more than 1,000, or the result cannot be kept.
    """
    job = current_job()
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise JobError(f"the step name {name[:220]!r} of {job.name!r} is not 1 to {MAX_NAME} printable characters")
    if name in job.taken_steps:
        raise JobError(f"two steps of {job.name!r} have the name {name!r}; in a loop, put its turn into the name")
    if len(job.taken_steps) >= MAX_STEPS:
        raise JobError(f"{job.name!r} has more than {MAX_STEPS} steps; enqueue jobs from it instead")
    job.taken_steps.add(name)
    if job.done_steps is None:
        job.done_steps = {} if job.first_run else await job.engine.steps(job.id)
    kept = job.done_steps.get(name)
    if kept is None:
        kept = await _run(name, function, args, kwargs)
        job.done_steps[name] = kept
    return cast("R", msgspec.json.decode(kept, type=_returned(function)))


def _returned(function: Callable[..., object]) -> Any:
    """What the function is annotated to return."""
    return get_type_hints(function).get("return", Any)


async def _run(name: str, function: Callable[..., Awaitable[Any]], args: Any, kwargs: Any) -> str:
    job, returned = current_job(), _returned(function)

    async def body(_: Work) -> bytes:
        result = await function(*args, **kwargs)
        try:
            encoded = encode_json(result)
            # Before it stands: a result that cannot be read would end the job each time that it comes by.
            msgspec.json.decode(encoded, type=returned)
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise JobError(
                f"the result of the step {name!r} of {job.name!r} cannot be said in JSON: {error}"
            ) from error
        if len(encoded) > MAX_RESULT_BYTES or not text_is_storable(encoded):
            raise JobError(
                f"the result of the step {name!r} of {job.name!r} is {len(encoded)} bytes of JSON; at most"
                f" {MAX_RESULT_BYTES} are kept, without the character U+0000"
            )
        return encoded

    # Before the commit: once it is on its way, the step may stand whatever becomes of the answer.
    job.stepped = True
    encoded = await Unit.run(job.database, body, finish=lambda result: [job.engine.step_kept(job.fence, name, result)])
    return encoded.decode()
