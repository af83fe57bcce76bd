"""Whether each upstream service still offers what the program relies on, according to its published document.

- `check`: compares all operations of one service; begin here
- `compare`: compares one operation
- `declared`: what the program declares, and whether a real response agrees with it
- `document`: reads the OpenAPI document of a service
- `known_faults`: differences that do not count
"""
