"""Traffic: changes in the publishing services and their events, drawn from a seed."""
