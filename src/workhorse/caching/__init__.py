"""What an app keeps because making it again is dear, and what one alone may do at a time.

Caches over any store of the contract `CacheStore`, and leases over any `LeaseStore`. What a store promises it declares,
and `require` refuses at start-up what it does not.
"""

from workhorse.caching.cache import Cache
from workhorse.caching.caches import Caches
from workhorse.caching.gate import CacheCounts, Near, StoreAwayPolicy
from workhorse.caching.guarantees import require
from workhorse.caching.leases import Lease, Leases
from workhorse.caching.values import Codec

__all__ = ["Cache", "CacheCounts", "Caches", "Codec", "Lease", "Leases", "Near", "StoreAwayPolicy", "require"]
