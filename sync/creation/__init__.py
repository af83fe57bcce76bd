"""How a record is created in NOMIS exactly once."""
