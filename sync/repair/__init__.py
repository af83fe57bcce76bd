"""What an operator can repair, whatever the domain.

- `dead_letters`: what a dead-letter message is about
- `dead_letter_report`: why it failed, and whether a retry may help
- `hints`: what it probably needs, in one line
- `dead_letter_queue`: peeks at a dead letter queue, sends its messages back, or removes them
- `scheduled_redrive`: which messages housekeeping sends back, and which it gives up
- `duplicates`: two NOMIS records for one DPS record: which may be removed
- `creations`: creations with an unknown outcome, resolved by a person
- `resync`: writes one DPS record to NOMIS again
- `finding_text`: what a finding means, in sentences
"""
