"""Other people's tools: how each is run, and what its words mean."""
