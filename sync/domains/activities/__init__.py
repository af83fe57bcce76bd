"""Activities, allocations and attendances."""
