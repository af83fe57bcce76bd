"""Waits, limits and poll intervals that are not settings but may have to be tuned.

All values are in seconds. Times that have an environment variable are in `sync.settings.declaration` instead. Code
outside `sync.settings` refers to the values here as `times.NAME`, so that tests can replace them.
"""

# Receiving.
#: The longest time for which the messages of one micro-batch are received.
BATCH_RECEIVE_SECONDS = 20.0
#: The length of the long poll for the first message of a batch, in whole seconds as SQS requires.
LONG_POLL_SECONDS = 1
#: The pause before a second attempt if a receive in advance failed.
RECEIVE_RETRY_SECONDS = 1.0

# Handling a batch.
#: The pause between checks of whether parked messages, or a paused receive, can continue.
POLL_SECONDS = 0.25
#: The shortest and the longest time for which finished messages wait to be acknowledged together; the longest applies
#: only if no batch of ten is full.
ACKNOWLEDGE_POLL_SECONDS = 0.02
ACKNOWLEDGE_SECONDS = 0.25
#: How long a thread works on one message group before it reports the finished tasks.
GROUP_TURN_SECONDS = 1.0

# Leases.
#: How long a handler waits for a lease while it handles an event, and the shortest and longest pauses between its
#: attempts to acquire the lease.
HANDLER_LEASE_WAIT_SECONDS = 1.0
HANDLER_LEASE_POLL_SECONDS = 0.01
HANDLER_LEASE_LONGEST_POLL_SECONDS = 0.1
#: How long a message group is parked for a lease before it goes back to the queue, and the pause between attempts.
LEASE_WAIT_SECONDS = 10.0
LEASE_POLL_SECONDS = 1.0
#: How long after its intent a create may still be sent. A create that has waited longer, for a token or its turn, is
#: not sent, since other processes derive from this limit when its call must have ended, even if its process has died.
SEND_WITHIN_SECONDS = 10.0

# Outages.
#: How long a message stays in a batch, parked or ready, before a copy replaces it. SQS hides a message for at most 12
#: hours after a receive, however often its visibility timeout is renewed.
LONGEST_HIDDEN_SECONDS = 39_600.0
#: The pause before a message group is tried again after an open breaker stopped it.
UPSTREAM_POLL_SECONDS = 0.25
#: The pause before a message group is tried again after the database was unavailable.
DATABASE_POLL_SECONDS = 1.0
#: The minimum time between two messages of a queue that try a service after it has responded to a ping.
TRIAL_SECONDS = 0.5
#: How long a message may wait on the queue for an unavailable service.
LONGEST_OUTAGE_SECONDS = 1_800.0
#: How long a message may wait on the queue because of refused credentials, which a person has to correct.
LONGEST_REFUSED_SECONDS = 43_200.0

# The breaker for a service.
#: How long a call counts towards the decision whether a service is down. At most the last twenty calls count.
BREAKER_WINDOW_SECONDS = 60.0
#: Failures in a row for this long also count as an outage, whatever succeeded before them. On a quiet day, the
#: successes of the last minute would otherwise outweigh the failures of a few messages.
BREAKER_QUIET_SECONDS = 5.0
#: The pause before the first ping, the pause between pings, and the longest pause. The pause doubles each time that
#: calls fail after a successful ping.
FIRST_PING_SECONDS = 0.5
PING_SECONDS = 2.0
MAX_PING_SECONDS = 20.0
#: The longest pause that a service may ask for with `Retry-After`.
MAX_RETRY_AFTER_SECONDS = 60.0
#: How long a breaker remembers a failed record, so that the record does not count twice.
FAILED_RECORD_SECONDS = 600.0
#: If a trial has no result after this time, another call may try the service.
MAX_TRIAL_SECONDS = 120.0
#: A service that responds to pings counts as up if no process calls it for this long. A message that waits for the
#: service tries it at least once a minute.
UNTRIED_SECONDS = 90.0
#: How often a process reads the states of the breakers that all processes share.
BREAKER_POLL_SECONDS = 5.0

# Copies of messages that wait on the queue.
#: How long a message may wait on the queue in total, whatever it waits for, unless the limit of a single wait is
#: longer.
LONGEST_WAIT_SECONDS = 86_400.0
#: The first and the longest delay of a copy. In between, the delay is half of the time that the message has waited.
FIRST_REQUEUE_SECONDS = 2
LONGEST_REQUEUE_SECONDS = 60

# Reading for a report.
#: The pauses before the 2nd, 3rd and 4th attempt at a read, before jitter.
READ_RETRY_SECONDS = (0.1, 0.4, 1.6)
#: The corresponding pauses for a page of a list. They are longer, since part of the population would be missing
#: without the page.
PAGE_RETRY_SECONDS = (1.0, 5.0, 20.0)
#: The pause before a read is tried again while the breaker for its service is open.
OPEN_BREAKER_PAUSE_SECONDS = 1.0

# SQS.
#: The longest time for which SQS hides a message. This is a limit of SQS, so it must not be changed here.
MOST_VISIBILITY_SECONDS = 43_200
#: The pause before a batch call is repeated for its failed entries, multiplied by the number of the attempt.
SQS_RETRY_SECONDS = 0.1
#: The visibility timeout for the messages of a dead letter queue while they are read; the heartbeat renews it.
DEAD_LETTER_VISIBILITY_SECONDS = 60

# Dead letters.
#: While messages are sent back in batches: how often to check whether a batch has been handled.
RETRY_POLL_SECONDS = 0.5
#: How long the messages of one dead letter queue are read for a list, unless the command is given a different limit.
DEAD_LETTER_READ_SECONDS = 30
