"""The reconciliation of the coming weeks' appointments in NOMIS with those in the activities API."""
