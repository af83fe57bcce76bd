"""Adjustments of sentences and of key dates."""
