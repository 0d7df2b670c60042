"""Jobs a second, how soon a job begins, and what idling costs, beside other engines: `python -m jobs`."""
