"""Access to the SQS queues.

- `queue`: makes the calls to one queue
- `setup`: opens the queues, and creates them at a local endpoint
- `heartbeat`: keeps messages hidden while they are in flight or browsed
- `requeue`: lets a message wait on its queue without using up its receives
- `aws`: creates the AWS clients
"""
