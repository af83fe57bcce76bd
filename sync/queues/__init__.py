"""The SQS queues.

- `queue`: the calls of one queue
- `setup`: opens the queues, and creates them at a local endpoint
- `heartbeat`: keeps messages hidden while they are in flight or browsed
- `requeue`: lets a message wait on its queue without using up its receives
- `aws`: makes the clients of AWS
"""
