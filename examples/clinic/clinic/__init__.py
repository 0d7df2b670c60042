"""A clinic on Django: its admin, a REST API, FHIR in and iCalendar out, and a record of everybody who looked."""
