"""The people whose records are synchronised: prisoners in prisons, with levels, rooms, visitors and histories."""
