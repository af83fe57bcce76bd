"""HMPPS services other than NOMIS and the publishers: sign-in, mapping and prisoner search."""
