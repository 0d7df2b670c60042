"""Workhorse's tables, by Django's `migrate`."""
