"""The decisions of relays: signatures, addresses, and what follows an attempt."""

from base64 import b64encode
from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from workhorse.relays import SignatureWrong, sign, verify
from workhorse.relays.addresses import is_public
from workhorse.relays.attempts import RETRY_SECONDS, Next, Outcome, next_step, retry_after

# The example of the Standard Webhooks specification.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_signature_is_that_of_the_specification() -> None:
    headers = sign([SECRET], message_id=MESSAGE_ID, timestamp=TIMESTAMP, body=BODY)
    assert headers == {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(TIMESTAMP),
        "webhook-signature": SIGNATURE,
    }
    assert verify([SECRET], headers, BODY, now=TIMESTAMP + 299) == MESSAGE_ID


def test_an_ed25519_signature_is_verified_by_who_cannot_sign() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    private = "whsk_" + b64encode(bytes(range(32))).decode()
    public = "whpk_" + b64encode(key.public_key().public_bytes_raw()).decode()
    headers = sign([private, SECRET], message_id="m", timestamp=1, body=b"x")
    assert headers["webhook-signature"].startswith("v1a,")
    assert verify([public], headers, b"x", now=1) == verify([SECRET], headers, b"x", now=1) == "m"
    with pytest.raises(SignatureWrong):
        verify([public], headers, b"y", now=1)


@pytest.mark.parametrize(
    "headers",
    [
        {"webhook-id": "other"},
        {"webhook-timestamp": str(TIMESTAMP + 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "\u0661"},
        {"webhook-signature": "v2" + SIGNATURE[2:]},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1a" + SIGNATURE[2:]},
        {"webhook-signature": "v1,***"},
        {"webhook-signature": "x " * 16 + SIGNATURE},
    ],
    ids=str,
)
def test_what_differs_is_not_signed(headers: dict[str, str]) -> None:
    good = sign([SECRET], message_id=MESSAGE_ID, timestamp=TIMESTAMP, body=BODY)
    with pytest.raises(SignatureWrong):
        verify([SECRET], {**good, **headers}, BODY, now=TIMESTAMP)
    for name in good:
        with pytest.raises(SignatureWrong, match="no header"):
            verify([SECRET], {key: value for key, value in good.items() if key != name}, BODY, now=TIMESTAMP)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - an address, not a socket
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "240.0.0.1",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "2001:db8::1",
        "fec0::1",
        "::7f00:1",
    ],
)
def test_addresses_of_no_public_machine_are_not_sent_to(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "::ffff:1.1.1.1"])
def test_public_addresses_are_sent_to(address: str) -> None:
    assert is_public(ip_address(address))


TAKEN, FAILED, GONE = Outcome(status=204), Outcome(status=500), Outcome(status=410)


@pytest.mark.parametrize(
    ("outcome", "attempts", "ordered", "expected"),
    [
        (TAKEN, 1, False, (Next.FORGET, 0.0)),
        (FAILED, 1, False, (Next.RETRY, 10.0)),
        (FAILED, 2, False, (Next.RETRY, 20.0)),
        (FAILED, 3, False, (Next.BURY, 0.0)),
        (FAILED, 3, True, (Next.DISABLE, 0.0)),
        (GONE, 1, False, (Next.DISABLE, 0.0)),
        (Outcome(error="no reply"), 1, False, (Next.RETRY, 10.0)),
        (Outcome(status=302), 1, False, (Next.RETRY, 10.0)),
        (Outcome(status=503, retry_after=60), 1, False, (Next.RETRY, 60.0)),
        (Outcome(status=503, retry_after=1e9), 1, False, (Next.RETRY, 86_400.0)),
    ],
    ids=str,
)
def test_what_follows_an_attempt(outcome: Outcome, attempts: int, ordered: bool, expected: object) -> None:  # noqa: FBT001
    assert next_step(outcome, attempts, [10, 20], ordered=ordered, chance=0.5) == expected


def test_pauses_are_spread_and_last_about_three_days() -> None:
    low = next_step(FAILED, 1, [10], ordered=False, chance=0.0)[1]
    high = next_step(FAILED, 1, [10], ordered=False, chance=1.0)[1]
    assert (low, high) == pytest.approx((8.0, 12.0))
    assert 3 * 86_400 < sum(RETRY_SECONDS) < 4 * 86_400


@pytest.mark.parametrize(("value", "seconds"), [("5", 5.0), (None, None), ("Wed, 1 Jan", None), ("-1", None)])
def test_only_seconds_of_a_retry_after_count(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds
