"""Helps operators to deal with dead letters, duplicates and creations, and to write DPS records again, in any domain.

- `dead_letters`: reads what a dead-letter message is about
- `dead_letter_report`: says why a message failed, and whether a retry may help
- `hints`: gives one line of advice about a failed message
- `dead_letter_queue`: peeks at a dead letter queue, sends its messages back, or removes them
- `scheduled_redrive`: decides which messages housekeeping sends back, and which it gives up on
- `duplicates`: decides whether the second NOMIS record for a DPS record may be removed
- `creations`: helps a person to resolve creations with an unknown outcome
- `resync`: writes one DPS record to NOMIS again
- `finding_text`: explains a finding in sentences
"""
