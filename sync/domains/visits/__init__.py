"""Prison visits."""
