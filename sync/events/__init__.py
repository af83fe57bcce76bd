"""What an event says, and what its handling works with."""
