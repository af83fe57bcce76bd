"""Traffic, generated from a seed: changes in the publishing services, and the events about these changes."""
