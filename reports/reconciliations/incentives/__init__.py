"""The reconciliation of incentive levels, with the evidence, diagnosis and fixes for each difference."""
