"""Traffic: changes in the publishing services and their events, generated from a seed."""
