"""Traffic: changes in the publishing services and the events that tell of them, drawn from a seed."""
