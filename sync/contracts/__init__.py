"""Checks whether each upstream service still offers what the program relies on, according to its published document.

- `check`: compares all operations of one service; begin here
- `compare`: compares one operation
- `declared`: reads the program's declarations, and compares a real response with them
- `document`: reads the OpenAPI document of a service
- `known_faults`: lists differences that do not count
"""
