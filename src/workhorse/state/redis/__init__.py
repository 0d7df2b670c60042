"""Redis, Valkey, or what speaks their protocol, through redis-py (the extra `workhorse[redis]`)."""
