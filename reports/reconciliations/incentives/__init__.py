"""The reconciliation of incentive levels, with the evidence, the diagnosis and the fixes of a difference."""
