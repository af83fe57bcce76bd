"""The replacement for AWS: SNS, SQS, S3 and SES, emulated by moto, and the topic that carries the domain events."""
