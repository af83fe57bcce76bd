"""How a reconciliation runs: list, read, compare, recheck, conclude."""
