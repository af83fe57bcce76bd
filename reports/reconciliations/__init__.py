"""What is compared: one package for each reconciliation."""
