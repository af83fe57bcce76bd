"""The reconciliation of visits: NOMIS must have every booked visit once, on the right day and with the right people."""
