"""Visits: every booked visit is in NOMIS on the right day with the right people, and only once."""
