"""What is in for AWS: SNS, SQS and S3 by moto, and the topic that carries the domain events."""
