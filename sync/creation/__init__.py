"""How a record is created in NOMIS exactly once.

- `protocol`: the steps, and what the next delivery does after a crash at each of them; begin here
- `creation`: what a domain declares: the abstract class `Creation`
- `store`: records each step in the database
- `conflicts`: what a refused mapping means
"""
