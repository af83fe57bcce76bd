"""How a report or an alert reaches people, each delivery exactly once.

`sender` works through the outbox; `archive`, `slack` and `email` are the channels, and `channels` says which are set
up.
"""
