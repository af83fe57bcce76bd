"""The parts that serve every fake service: requests and replies, routes, faults, latency and records."""
