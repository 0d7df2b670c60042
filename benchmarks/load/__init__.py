"""The load: one process, many kept-alive connections, one request under way on each."""
