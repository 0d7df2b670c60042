"""Holds what the clients saw against what is in the database. Pure, and tested itself."""

import calendar
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from tests.crash.clients import Answer
from tests.crash.evidence import Evidence, Mandated, Paid, Posted, Reported, Reversed
from tests.crash.orders import Mandate, Order, Reversal, Wish

__all__ = [
    "Posted",
    "judge",
    "judge_books",
    "judge_days",
    "judge_jobs",
    "judge_mandates",
    "judge_news",
    "judge_payments",
    "judge_rest",
    "judge_reversals",
    "judge_wishes",
]


def judge_wishes(wishes: Mapping[str, Wish], answers: Mapping[str, Answer], found: Evidence) -> list[str]:
    """Name every difference between what the bank said to its clients and what it did."""
    orders = {name: wish for name, wish in wishes.items() if isinstance(wish, Order)}
    reversals = {name: wish for name, wish in wishes.items() if isinstance(wish, Reversal)}
    mandates = {name: wish for name, wish in wishes.items() if isinstance(wish, Mandate)}
    return [
        *judge(orders, answers, found.posted),
        *judge_reversals(reversals, answers, found.reversals),
        *judge_mandates(mandates, answers, found.mandates),
    ]


def judge(orders: Mapping[str, Order], answers: Mapping[str, Answer], posted: Iterable[Posted]) -> list[str]:
    """Name every difference between what the bank said of transfers and what it did; none, if it kept its promise.

    Args:
        orders: what clients wanted, by reference.
        answers: what they were told at last.
        posted: all transfers that clients can have ordered.
    """
    faults: list[str] = []
    rows: dict[str, list[Posted]] = defaultdict(list)
    for row in posted:
        rows[row.reference].append(row)
    for reference, order in orders.items():
        faults += _judge_order(order, answers.get(reference), rows.pop(reference, []))
    faults += [f"nobody ordered {row}" for left in rows.values() for row in left]
    return faults


def _judge_order(order: Order, answer: Answer | None, rows: list[Posted]) -> list[str]:
    if answer is None:
        return [f"{order.reference} was never answered, and was posted {len(rows)} times"]
    if answer.status != 201:
        return [f"{order.reference} was refused, and posted all the same: {row}" for row in rows]
    if not rows:
        return [f"{order.reference} was acknowledged and is lost: {answer.body!r}"]
    if len(rows) > 1:
        return [f"{order.reference} was posted {len(rows)} times: {rows}"]
    (row,) = rows
    said = json.loads(answer.body)
    told = Posted(said["id"], said["debtor"], said["creditor"], said["currency"], said["amount"], said["reference"])
    wanted = Posted(row.id, order.debtor, order.creditor, order.currency, order.amount, order.reference)
    if not row == told == wanted:
        return [f"{order.reference} was wanted as {wanted}, acknowledged as {told}, posted as {row}"]
    return []


def judge_reversals(
    wishes: Mapping[str, Reversal], answers: Mapping[str, Answer], rows: Iterable[Reversed]
) -> list[str]:
    """The same for transfers that clients took back."""
    faults: list[str] = []
    by_id = {row.id: row for row in rows}
    twice = [original for original, times in Counter(row.reverses for row in by_id.values()).items() if times > 1]
    faults += [f"transfer {original} was taken back more than once" for original in twice]
    for name, wish in wishes.items():
        answer = answers.get(name)
        if answer is None:
            faults.append(f"{name} was never answered")
        elif answer.status == 201:
            told = json.loads(answer.body)["id"]
            order = wish.of
            wanted = Reversed(told, wish.transfer, order.creditor, order.debtor, order.currency, order.amount)
            if (row := by_id.pop(told, None)) != wanted:
                faults.append(f"{name} was acknowledged as {wanted}, and posted as {row}")
    return faults + [f"nobody wanted {row}" for row in by_id.values()]


def judge_mandates(wishes: Mapping[str, Mandate], answers: Mapping[str, Answer], rows: Iterable[Mandated]) -> list[str]:
    """The same for standing orders. Those that nobody was answered for came from the siege itself."""
    faults: list[str] = []
    by_reference: dict[str, list[Mandated]] = defaultdict(list)
    for row in rows:
        by_reference[row.reference].append(row)
    for name, wish in wishes.items():
        answer, kept = answers.get(name), by_reference.get(name, [])
        if answer is None:
            faults.append(f"{name} was never answered")
        elif len(kept) != (answer.status == 201):
            faults.append(f"{name} was answered with {answer.status}, and stands {len(kept)} times")
        elif kept:
            (row,) = kept
            wanted = (wish.debtor, wish.creditor, wish.currency, wish.amount, wish.every, wish.starts)
            if wanted != (row.debtor, row.creditor, row.currency, row.amount, row.every, row.starts.isoformat()):
                faults.append(f"{name} was wanted as {wanted}, and stands as {row}")
    return faults


def judge_payments(mandates: Iterable[Mandated], payments: Iterable[Paid], today: date) -> list[str]:
    """Each standing order is paid once on each of its days up to today, and on no other."""
    faults: list[str] = []
    everything = list(payments)
    by_mandate: dict[int, list[Paid]] = defaultdict(list)
    for payment in everything:
        by_mandate[payment.mandate].append(payment)
    for row in mandates:
        paid = by_mandate.pop(row.id, [])
        wanted = [_day_of(row.starts, row.every, turn) for turn in range(row.turns)]
        if sorted(one.due for one in paid) != wanted:
            faults.append(f"standing order {row.id} was paid for {sorted(str(one.due) for one in paid)}, not {wanted}")
        if row.due is not None and row.due <= today:
            faults.append(f"standing order {row.id} is still to be paid for {row.due}")
        if row.due is not None and row.due != _day_of(row.starts, row.every, row.turns):
            faults.append(f"standing order {row.id} is due on {row.due} after {row.turns} turns")
        for one in paid:
            is_right = (one.debtor, one.creditor, one.amount) == (row.debtor, row.creditor, row.amount)
            if one.outcome == "posted" and not is_right:
                faults.append(f"standing order {row} was paid as {one}")
    transfers = Counter(one.transfer for one in everything if one.transfer is not None)
    faults += [f"transfer {one} pays {times} standing orders" for one, times in transfers.items() if times > 1]
    return faults + [
        f"a standing order that is not there was paid: {one}" for left in by_mandate.values() for one in left
    ]


def _day_of(starts: date, every: str, turns: int) -> date:
    if every == "day":
        return starts + timedelta(days=turns)
    if every == "week":
        return starts + timedelta(weeks=turns)
    year, month = divmod(starts.year * 12 + starts.month - 1 + turns, 12)
    return date(year, month + 1, min(starts.day, calendar.monthrange(year, month + 1)[1]))


def judge_news(told: set[int], announced: Counter[int], advised: Counter[int]) -> list[str]:
    """Of each transfer there is one event and one advice, and of nothing else."""
    faults: list[str] = []
    for name, news in (("event", announced), ("advice", advised)):
        faults += [f"transfer {one} has no {name}" for one in sorted(told - set(news))]
        faults += [f"transfer {one} has {times} of its {name}" for one, times in news.items() if times > 1]
        faults += [f"there is an {name} of {one}, of which nobody is told" for one in sorted(set(news) - told)]
    return faults


def judge_days(over: set[date], reports: Iterable[Reported], closed: Counter[date]) -> list[str]:
    """Each day that is over has one whole report, and one event that says so."""
    faults: list[str] = []
    days: Counter[date] = Counter()
    for row in reports:
        days[row.day] += 1
        if row.counted != row.posted:
            faults.append(f"the report of {row.day} counts {row.counted} transfers of {row.posted}")
        if row.written != list(range(1, row.pages + 1)) or row.written_lines != row.lines:
            faults.append(f"the report of {row.day} has other pages than it says: {row}")
        if row.lines != 2 * row.posted:
            faults.append(f"the file of {row.day} has {row.lines} lines of {2 * row.posted}")
    faults += [f"{day} has no report" for day in sorted(over - set(days))]
    faults += [f"{day} has {times} reports" for day, times in days.items() if times > 1]
    faults += [f"{day} was closed {closed[day]} times" for day in sorted(set(days) | set(closed)) if closed[day] != 1]
    return faults


def judge_jobs(found: Evidence) -> list[str]:
    """Every job has ended, once."""
    return [
        *(f"a job is left: {one}" for one in found.jobs_left),
        *(f"the job {one} ended {times} times" for one, times in found.finished.items()),
    ]


def judge_rest(found: Evidence, workers: int) -> list[str]:
    """Nothing is held by the dead: no lock, lease, claim or unique key, and every worker that is enrolled lives."""
    faults = list(found.left_over)
    if found.workers != workers:
        faults.append(f"{found.workers} workers are enrolled, of which {workers} live")
    return faults


def judge_books(found: Evidence, audit: Mapping[str, object], cached: int | None) -> list[str]:
    """The books balance by the bank's word, by our own count, and as they are shown from the cache.

    Args:
        found: the tables.
        audit: what GET /books/audit says.
        cached: the transfers that GET /books says of the bank at rest.
    """
    faults = [f"account {one} has {balance} and should have {total}" for one, balance, total in found.wrong_balances]
    faults += [f"all balances in {currency} are {total}" for currency, total in found.totals.items() if total]
    if audit.get("balanced") is not True:
        faults.append(f"the bank says of itself that its books do not balance: {audit}")
    if cached != found.all_transfers:
        faults.append(f"the cached books have {cached} transfers of {found.all_transfers}")
    return faults
