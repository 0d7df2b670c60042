"""Jobs a second, and how soon a job begins: this engine, and others on the same Postgres."""
