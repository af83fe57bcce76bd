"""Whether each upstream service still offers what the program relies on: its published document, compared."""
