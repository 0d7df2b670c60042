"""What a cache costs and keeps apart, beside other caches for asyncio: `python -m cache`."""
