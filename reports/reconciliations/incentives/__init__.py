"""The incentive reconciliation: evidence, diagnosis and fixes."""
