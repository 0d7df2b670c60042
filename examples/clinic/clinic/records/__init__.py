"""Patients and what is known of them, who may see it, and who has."""
