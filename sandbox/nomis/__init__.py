"""NOMIS: its records, the checks that it makes and its endpoints, a module for each kind of record."""
