"""The publishing services: the records and endpoints of each, and the events about changes to its records."""
