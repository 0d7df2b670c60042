"""What tables cost to export and import, beside an ORM, raw COPY and ADBC: `python -m analytics`."""
