"""Stores in this process's own memory: what each promises, it promises for one process."""
