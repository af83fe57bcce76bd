"""NOMIS: its records, its checks and its endpoints, with a module for each kind of record."""
