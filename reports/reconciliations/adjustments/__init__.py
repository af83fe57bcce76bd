"""The reconciliation of sentencing adjustments. Release dates depend on adjustments, so differences are serious."""
