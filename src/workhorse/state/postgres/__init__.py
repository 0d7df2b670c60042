"""Postgres through psycopg 3: transactions for units, and the migrations of schemas."""
