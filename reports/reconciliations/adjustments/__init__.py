"""The reconciliation of sentencing adjustments, from which release dates are worked out: a difference is serious."""
