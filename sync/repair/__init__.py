"""What only an operator meets: dead letters, duplicates, creations of unknown outcome."""
