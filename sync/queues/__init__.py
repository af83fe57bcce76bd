"""Access to the SQS queues.

- `queue`: makes the calls to one queue, and reads from CloudWatch how old the oldest messages are
- `setup`: opens the queues and, at a local endpoint, creates missing ones
- `heartbeat`: keeps messages hidden while they are being handled or browsed
- `requeue`: lets a message wait on its queue without using up its receives
- `aws`: creates the AWS clients
"""
