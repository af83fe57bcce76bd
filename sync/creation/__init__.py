"""Creates records in NOMIS exactly once.

- `protocol`: the steps, and what the next delivery of the message does after a crash at any step; begin here
- `creation`: the abstract class `Creation`, by which a domain declares how its records are created
- `store`: records each step in the database
- `conflicts`: saves a mapping, and finds out what a refusal by the mapping service means
"""
