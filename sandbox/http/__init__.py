"""The parts that all fake services share: requests and replies, routes, faults, latency and records."""
