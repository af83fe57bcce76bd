"""Who there is to be synchronised: prisoners in prisons, with levels, rooms, visitors and histories."""
