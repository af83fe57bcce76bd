"""Delivers each report and each alert to people exactly once.

- `sender`: sends what is in the outbox
- `channels`: which channels are set up, and how a delivery can fail
- `archive`: keeps the report of every run, and an index of the runs, in a folder or a bucket
- `slack`: posts messages, with further messages and files in a thread
- `email`: sends a copy of the report to each recipient
"""
