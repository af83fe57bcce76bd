"""HMPPS services beside NOMIS and the publishers: sign-in, mapping, prisoner search."""
