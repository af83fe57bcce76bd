"""The sandbox's own idea of the truth: what NOMIS and the mappings must hold for every record that was published.

Written from the rules of the synchronisation, independently of the program that is tried against it.
"""
