"""What every fake service is served with: requests and replies, routes, faults, latency, what was recorded."""
