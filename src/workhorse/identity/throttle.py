"""Slows down who guesses passwords, and lets the owner of the account in all the same.

    throttle = LoginThrottle()
    service = Service(app, identity=Identity(Sessions(), throttle=throttle))

    attempt = await throttle.admit(name, device_cookie=request.cookies.get("__Host-device"))     # or 429
    if not password_is_right(name, password):
        await attempt.failed()
        ...
    await attempt.succeeded()                                            # the device is known from now on

To lock an account after some failures lets anybody lock anybody out. So the devices from which an account has logged
in before are told apart, by a signed cookie, from all others:

- A known device has a budget of its own, for the one account. Nobody else can use it up.
- All others share a budget for the account, one for the account and their network, and one for their network. The
  first holds off many addresses that try one account, the last one address that tries many accounts.

Each budget is several rates together, a few attempts a minute, a few more an hour and a day: so the pauses grow from
seconds to hours and days, and no account is ever locked. The slowest, over a year, counts failures in a row: a login
makes it full again. NIST SP 800-63B allows 100: these let 50 through, and then one in 7 days, which is 100 in a year.
Who has to stay below 100 for as long as nobody logs in gives `failures` a longer period.

What it cannot do is tell an owner at a device that the account does not know from a guesser: who keeps an account's
shared budget used up, from many networks, keeps its owner out there, though not at the devices that are known. The way
through is `forgive`, after the owner has shown that they are, by a link sent to their address, say.

An attempt takes from its budgets before the password is looked at, because many at the same moment would otherwise all
find them full. It counts as failed until it is told otherwise: if the client hangs up, or the process dies, too.

The counters know accounts and networks by a keyed hash (HMAC-SHA-256) only. Nothing depends on whether there is such
an account, so neither the answer nor its time tells.
"""

import hmac
import math
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from secrets import token_bytes
from typing import Final, NamedTuple

from workhorse.context import CURRENT, current_request
from workhorse.contracts import CounterStore, Grant, Recorder
from workhorse.errors import PROBLEM_PREFIX, Problem, SettingsError, StartupError
from workhorse.identity.device_cookie import DeviceCookie, DeviceCookies, is_device_cookie
from workhorse.identity.scheme import Surroundings
from workhorse.networks import network_of
from workhorse.rate import Quota, Rate
from workhorse.telemetry.log import Log

__all__ = ["Attempt", "LoginThrottle", "TooManyAttempts"]

Rates = Iterable[str]

DEVICE_RATES: Final = ("5/minute", "15/hour", "30/day", "40/365 days")
ACCOUNT_RATES: Final = ("10/minute", "25/hour", "40/day")
ACCOUNT_NETWORK_RATES: Final = ("5/minute", "15/hour", "30/day")
NETWORK_RATES: Final = ("30/minute", "300/hour", "1500/day")
FAILURES_RATE: Final = "50/365 days"
"""Against the 100 failures in a row of NIST SP 800-63B, section 5.2.2; a known device has 40 of its own."""

MAX_RATES: Final = 5
"""Of one budget: with three budgets and the failures in a row, that is what a store takes from at once."""

# No other use of the same key can be mistaken for this one.
PURPOSE: Final = b"workhorse login throttle 1: counters\0"


class TooManyAttempts(Problem):
    """429: too many attempts to log in (RFC 6585, section 4). It does not tell whether there is such an account."""

    status = 429
    type = PROBLEM_PREFIX + "too-many-attempts"
    title = "Too many attempts to log in"

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(
            "Wait before the next attempt.", headers=((b"retry-after", b"%d" % max(1, retry_after_seconds)),)
        )
        self.retry_after_seconds = retry_after_seconds


class Budget(NamedTuple):
    """The rates of one budget, each under the beginning of its counters' keys."""

    counters: tuple[Quota, ...]

    def quotas(self, whose: str) -> list[Quota]:
        """One counter a rate."""
        return [Quota(prefix + whose, interval_us, capacity) for prefix, interval_us, capacity in self.counters]


class Room(NamedTuple):
    """What attempts and their throttle share."""

    counters: CounterStore
    cookies: DeviceCookies
    clock: Callable[[], float]
    log: Log | None
    recorder: Recorder | None = None

    def record(self, account: str, *, known_device: bool, throttled: bool) -> None:
        """Record an attempt that failed. The account stands as its keyed digest: people type passwords there, too."""
        if self.recorder is not None:
            why = "throttled" if throttled else "password"
            self.recorder.tell(
                "audit.login_failed", subject=f"account:{account}", data={"why": why, "known_device": known_device}
            )

    def tell(self, event: str, *, known_device: bool, seconds: float) -> None:
        """Log what happened, without the account and the address."""
        if self.log is not None:
            self.log.event("info", event, known_device=known_device, wait_seconds=math.ceil(seconds))


class Attempt:
    """One attempt that was let in. It has failed, unless `succeeded` is called."""

    __slots__ = ("_account", "_digest", "_keys", "_room", "known_device", "next_seconds")

    def __init__(
        self,
        room: Room,
        account: bytes,
        keys: Sequence[str],
        *,
        known_device: bool,
        next_seconds: float,
        digest: str = "",
    ) -> None:
        self._room = room
        self._digest = digest
        self._account = account
        self._keys = keys
        self.known_device: Final = known_device
        """Whether the account has logged in from this device before."""
        self.next_seconds: Final = next_seconds
        """How long the next attempt has to wait if this one fails; 0: not at all."""

    def __repr__(self) -> str:
        return f"<Attempt from {'a known' if self.known_device else 'an unknown'} device>"

    async def failed(self) -> float:
        """Note that the password was wrong, or that there is no such account. Returns `next_seconds`."""
        self._room.tell("login.failed", known_device=self.known_device, seconds=self.next_seconds)
        self._room.record(self._digest, known_device=self.known_device, throttled=False)
        return self.next_seconds

    async def succeeded(self) -> DeviceCookie:
        """Note that the user has logged in, with all factors. Returns the cookie that makes the device a known one.

        The reply of the request that is being served gets the cookie by itself, unless its status is 400 or more.

        Makes the counters of this device full again, and those of failures in a row; not those that the account or the
        network shares with others, who would be given new attempts by it.

        Raises:
            StoreUnavailable: the counters' store did not answer in time.
        """
        await self._room.counters.forget(self._keys)
        cookie = self._room.cookies.new(self._account, now=self._room.clock())
        request = CURRENT.get(None)
        if request is not None:
            # A handler may run again, when its transaction lost to another: what it set before is replaced.
            request.login_cookies[:] = [line for line in request.login_cookies if not is_device_cookie(line)]
            request.login_cookies.append(cookie.header[1])
        return cookie


class LoginThrottle:
    """Admits attempts to log in.

    Args:
        counters: where they are counted; by default where the service counts its rate limits.
        key: a secret of at least 32 random bytes, the same in all processes. By default that of the settings
            (`identity.login_keys`); without one each development process makes its own, and production does not start.
        old_keys: keys that cookies may still be signed with. When the key changes, the counters begin anew.
        device: the budget of one known device for one account.
        account: that of all other devices for one account.
        account_network: that of all other devices in one network for one account.
        network: that of all other devices in one network for all accounts. Users behind one address share it, and
            their first logins from a new device count: mind an office or a mobile carrier.
        failures: how many failures in a row an account may have, from all other devices.
        lifetime_seconds: how long a device is known after its last login.
        log: where refused and failed attempts are told, without names and addresses.
        clock: seconds since 1970, for the cookies.

    Raises:
        SettingsError: a key is too short, a rate is malformed, or a budget has no rate or more than five.
    """

    def __init__(
        self,
        counters: CounterStore | None = None,
        *,
        key: bytes | None = None,
        old_keys: Sequence[bytes] = (),
        device: Rates = DEVICE_RATES,
        account: Rates = ACCOUNT_RATES,
        account_network: Rates = ACCOUNT_NETWORK_RATES,
        network: Rates = NETWORK_RATES,
        failures: str = FAILURES_RATE,
        lifetime_seconds: int = 180 * 86_400,
        log: Log | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lifetime = lifetime_seconds
        self._clock = clock
        self._log = log
        self._recorder: Recorder | None = None
        self._counters = counters
        self._own_counters = counters is not None
        self._key = key if key is not None else b""
        self._given: Room | None = None
        if key is not None:
            self._cookies = DeviceCookies((key, *old_keys), lifetime_seconds=lifetime_seconds)
            if counters is not None:
                self._given = Room(counters, self._cookies, clock, log)
        self._device = _budget("device", device)
        self._account = _budget("account", account)
        self._account_network = _budget("account_network", account_network)
        self._network = _budget("network", network)
        self._failures = _budget("failures", [failures])

    def __repr__(self) -> str:
        return f"<LoginThrottle over {self._counters!r}>"

    def bind(self, surroundings: Surroundings) -> None:
        """Take from the service what is not named in the code: counters, keys and log.

        Raises:
            SettingsError: there is no key, and this is production; or a key is too short.
        """
        settings = surroundings.settings
        if not self._own_counters:
            # Anew at each start: the stores of a run that has ended are closed.
            self._counters = surroundings.counters
        self._log = self._log if self._log is not None else surroundings.log
        self._recorder = surroundings.recorder
        if not self._key:
            keys = [key.get_secret_value().encode() for key in settings.identity.login_keys]
            if not keys and settings.production:
                raise SettingsError(
                    "LoginThrottle() has no key: set WORKHORSE_IDENTITY__LOGIN_KEYS to a secret such as"
                    " `openssl rand -base64 48` prints, the same for all processes"
                )
            # Of this process alone: enough for a developer's machine, where a restart may forget which devices it knew.
            keys = keys or [token_bytes(32)]
            self._key = keys[0]
            self._cookies = DeviceCookies(keys, lifetime_seconds=self._lifetime)
        if self._counters is not None:
            self._given = Room(self._counters, self._cookies, self._clock, self._log, self._recorder)

    async def admit(
        self, account: str, address: str | None = None, device_cookie: str | bytes | None = None
    ) -> Attempt:
        """Let an attempt in, before the password is looked at.

        Args:
            account: what the user typed in, whether there is such an account or not. Letter case, surrounding space
                and Unicode's several ways to write one character make no difference. Where the app takes several
                names for one account, give the account's id where there is one: each name has a budget of its own.
            address: the client's network address, as a trusted proxy says; by default that of the request that is being
                served.
            device_cookie: the value of the cookie `__Host-device`, as it came.

        Raises:
            TooManyAttempts: it has to wait.
            StoreUnavailable: the counters' store did not answer in time. Nobody logs in then.
        """
        name = _name_of(account)
        address = address if address is not None else current_request().client
        device = self._device_of(device_cookie, name)
        whose = self._hash("account", name)
        failures = self._failures.quotas(whose)
        if device is not None:
            own = quotas = self._device.quotas(device)
        else:
            network = network_of(address).encode("utf-8", "surrogatepass")
            own = self._account_network.quotas(self._hash("account and network", name, network))
            account_quotas = self._account.quotas(whose)
            quotas = [*own, *account_quotas, *self._network.quotas(self._hash("network", network)), *failures]
        grants = await self._room.counters.take(quotas)
        known = device is not None
        if not all(grant.admitted for grant in grants):
            seconds = max(grant.retry_after_us for grant in grants) / 1e6
            self._room.tell("login.throttled", known_device=known, seconds=seconds)
            self._room.record(whose, known_device=known, throttled=True)
            raise TooManyAttempts(math.ceil(seconds))
        full_again = [quota.key for quota in (*own, *failures)]
        seconds = next_us(quotas, grants) / 1e6
        return Attempt(self._room, name, full_again, known_device=known, next_seconds=seconds, digest=whose)

    async def forgive(self, account: str, device_cookie: str | bytes | None = None) -> None:
        """Make the counters of an account full again, as after its password was reset by its owner.

        Those of known devices stay, but for the one that shows its cookie; those of networks stay too.

        Raises:
            StoreUnavailable: the counters' store did not answer in time.
        """
        name = _name_of(account)
        whose = self._hash("account", name)
        device = self._device_of(device_cookie, name)
        own = self._device.quotas(device) if device is not None else []
        quotas = (*self._account.quotas(whose), *self._failures.quotas(whose), *own)
        await self._room.counters.forget([quota.key for quota in quotas])

    @property
    def _room(self) -> Room:
        if self._given is None:
            raise StartupError(
                "LoginThrottle() has no counters or no key: give it to the service,"
                " Service(app, identity=Identity(Sessions(), throttle=throttle)), or name both in the code"
            )
        return self._given

    def _device_of(self, cookie: str | bytes | None, name: bytes) -> str | None:
        device = self._room.cookies.device_of(cookie, name, now=self._room.clock())
        return self._hash("device", device) if device is not None else None

    def _hash(self, kind: str, *values: bytes) -> str:
        # The lengths in front: no two lists of values are the same bytes.
        parts = b"".join(b"%d:%b" % (len(value), value) for value in values)
        return hmac.digest(self._key, PURPOSE + kind.encode() + b"\0" + parts, "sha256")[:16].hex()


def next_us(quotas: Sequence[Quota], grants: Sequence[Grant]) -> int:
    """Microseconds until the next attempt would be let in, after one that was."""
    return max(
        max(0, grant.reset_us - (quota.capacity - 1) * quota.interval_us)
        for quota, grant in zip(quotas, grants, strict=True)
    )


def _budget(name: str, limits: Rates) -> Budget:
    rates = tuple(Rate(limit) for limit in limits)
    if not 1 <= len(rates) <= MAX_RATES:
        raise SettingsError(f"the login throttle's budget `{name}` has {len(rates)} rates; it has 1 to {MAX_RATES}")
    return Budget(
        tuple(Quota(f"login:{name}{number}:", rate.interval_us, rate.capacity) for number, rate in enumerate(rates))
    )


def _name_of(account: str) -> bytes:
    """The account as it is counted: one name in all its spellings (Unicode, section 3.13, compatibility caseless)."""
    folded = unicodedata.normalize("NFKC", account).casefold()
    return unicodedata.normalize("NFKC", folded).casefold().strip().encode("utf-8", "surrogatepass")
