"""What grows without an end, and what that costs: the journal, the kept replies, the history of jobs."""
