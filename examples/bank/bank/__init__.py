"""A bank in one small FastAPI app: accounts, transfers, reversals, payment files, and books that always balance."""
