"""The reconciliation of sentencing adjustments. A difference is serious, as release dates depend on adjustments."""
