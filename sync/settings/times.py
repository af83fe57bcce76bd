"""The times that an operator may have to tune and that are not settings: waits, limits and poll intervals.

All are in seconds. What has an environment variable is in `sync.settings.declaration` instead. Use them as
`times.NAME`, so that a change here is a change everywhere.
"""

# Receiving.
#: The longest that one micro-batch is received for.
BATCH_RECEIVE_SECONDS = 20.0
#: The long poll for the first message of a batch; SQS takes whole seconds.
LONG_POLL_SECONDS = 1

# Working a batch.
#: The pause between checks of whether parked messages, or a paused receive, can continue.
POLL_SECONDS = 0.25
#: How long finished messages wait to be acknowledged together: at least, and at most for a batch of ten to fill.
ACKNOWLEDGE_POLL_SECONDS = 0.02
ACKNOWLEDGE_SECONDS = 0.25
#: The longest that a thread stays with one message group before it reports what it has finished.
GROUP_TURN_SECONDS = 1.0

# Leases.
#: How long a handler waits for the lease of a record while it handles an event, and its shortest and longest pause
#: between tries.
HANDLER_LEASE_WAIT_SECONDS = 1.0
HANDLER_LEASE_POLL_SECONDS = 0.01
HANDLER_LEASE_LONGEST_POLL_SECONDS = 0.1
#: How long a message group is parked for a lease before it goes back to the queue, and how often it tries meanwhile.
LEASE_WAIT_SECONDS = 10.0
LEASE_POLL_SECONDS = 1.0
#: How long after its intent a create is still sent. One that has waited longer, for a token or its turn, is not sent,
#: since a process that died is believed to have sent its create by then.
SEND_WITHIN_SECONDS = 10.0

# Outages.
#: How long a message stays in a batch, parked or ready, before a copy replaces it: SQS hides a message for at most 12
#: hours after a receive, however often the timeout is renewed.
LONGEST_HIDDEN_SECONDS = 39_600.0
#: The pause before a message group that met an open breaker is tried again.
UPSTREAM_POLL_SECONDS = 0.25
#: The pause before a message group is tried again after the database was unavailable.
DATABASE_POLL_SECONDS = 1.0
#: The least time between two messages of a queue that try a service that has only just responded to a ping.
TRIAL_SECONDS = 0.5
#: The longest that a message waits on the queue for an unavailable service.
LONGEST_OUTAGE_SECONDS = 1_800.0
#: The longest that a message waits on the queue for refused credentials, which a person has to correct.
LONGEST_REFUSED_SECONDS = 43_200.0

# The breaker of a service.
#: The calls that decide whether a service is down: those of the last minute, at most twenty.
BREAKER_WINDOW_SECONDS = 60.0
#: Failures in a row for this long are an outage too, whatever succeeded before them: on a quiet day the successes of
#: the last minute would outweigh the failures of the few messages there are.
BREAKER_QUIET_SECONDS = 5.0
#: The pause before the first ping, that between pings, and the longest: it doubles each time that a call fails although
#: the ping succeeded.
FIRST_PING_SECONDS = 0.5
PING_SECONDS = 2.0
MAX_PING_SECONDS = 20.0
#: The longest pause that a service may ask for by `Retry-After`.
MAX_RETRY_AFTER_SECONDS = 60.0
#: How long a failed record is remembered, so that it does not count again.
FAILED_RECORD_SECONDS = 600.0
#: A trial without a result for this long is given to another call.
MAX_TRIAL_SECONDS = 120.0
#: A service that responds to pings and that no process calls for this long counts as up. A message that waits for it
#: tries it at least once a minute.
UNTRIED_SECONDS = 90.0
#: How often the state that processes share is read.
BREAKER_POLL_SECONDS = 5.0

# Copies of messages that wait on the queue.
#: The longest that a message waits on the queue altogether, whatever for; longer only where one wait may be longer.
LONGEST_WAIT_SECONDS = 86_400.0
#: The first pause of a copy, and its longest; between them it is half of the time waited so far.
FIRST_REQUEUE_SECONDS = 2
LONGEST_REQUEUE_SECONDS = 60

# Reading for a report.
#: The pauses before the 2nd, 3rd, … attempt at one read, before jitter.
READ_RETRY_SECONDS = (0.1, 0.4, 1.6)
#: The same for a page of a list, before jitter: without the page, part of the population would be missing.
PAGE_RETRY_SECONDS = (1.0, 5.0, 20.0)

# SQS.
#: The longest that SQS hides a message; SQS sets it, so a change here has no effect.
MOST_VISIBILITY_SECONDS = 43_200
#: The pause before a batch call is repeated for the entries that failed, multiplied by the number of the attempt.
SQS_RETRY_SECONDS = 0.1
#: How long the messages of a dead letter queue are hidden while they are read, before the heartbeat renews that.
DEAD_LETTER_VISIBILITY_SECONDS = 60

# Dead letters.
#: While messages are sent back in batches: how often to check what is left of a batch, and how often in a row SQS must
#: report an empty queue, since its numbers lag behind.
RETRY_POLL_SECONDS = 0.5
RETRY_EMPTY_POLLS = 3
#: How long the messages of one dead letter queue are read for a list, unless the command says otherwise.
DEAD_LETTER_READ_SECONDS = 30
