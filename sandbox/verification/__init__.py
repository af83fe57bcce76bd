"""The sandbox's expectations: what NOMIS and the mappings must hold for every published record.

The expectations were derived from the rules of the synchronisation, independently of the program that is tested against
them.
"""
