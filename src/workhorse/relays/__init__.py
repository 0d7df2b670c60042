"""What publishes the journal's events to outside systems: at least once, each time with the same id."""

from workhorse.relays.relay import Relay, relaying
from workhorse.relays.signing import SignatureWrong, sign, verify
from workhorse.relays.streams import StreamRelay
from workhorse.relays.webhooks import Order, Webhook

__all__ = ["Order", "Relay", "SignatureWrong", "StreamRelay", "Webhook", "relaying", "sign", "verify"]
