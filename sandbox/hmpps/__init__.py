"""HMPPS services other than NOMIS and the publishers: sign-in, mapping, prisoner search."""
