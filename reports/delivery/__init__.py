"""The delivery of reports and alerts to people, each exactly once.

- `sender`: sends what is in the outbox
- `channels`: which channels are set up, and how a delivery can fail
- `archive`: a folder or a bucket with the report of every run, and the index
- `slack`: messages, threads and files
- `email`: one copy for each recipient
"""
