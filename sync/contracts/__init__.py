"""Checks whether each upstream service, according to its published document, still offers what the program relies on.

- `check`: compares all operations of one service with its document; begin here
- `compare`: compares one operation with the document
- `declared`: reads the program's declarations, and compares a real response with its declaration
- `document`: reads the OpenAPI document of a service
- `known_faults`: lists differences that do not count as drift
"""
