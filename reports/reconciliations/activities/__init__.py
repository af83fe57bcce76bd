"""The reconciliations of activities: allocations, suspended allocations and attendances, counted by booking."""
