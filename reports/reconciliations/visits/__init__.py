"""The reconciliation of visits: NOMIS must have every booked visit exactly once, with the right details."""
