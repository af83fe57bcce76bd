"""The settings: what there is, and what may stand in each."""
