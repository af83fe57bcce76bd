"""Incentive reviews and incentive levels."""
