"""How old the oldest message of a queue is, as CloudWatch says it.

SQS itself does not say: only a receive shows when a message was sent, and each receive of a main queue costs the
message one of its attempts and hides it. CloudWatch has the age of each queue once a minute, and asking it touches no
message.
"""

from collections.abc import Sequence
from datetime import timedelta

from sync.clock import now
from sync.failures import SyncError
from sync.queues.aws import Aws

#: CloudWatch gets the figures of SQS once a minute, some minutes late.
_PERIOD_SECONDS = 60
_SPAN = timedelta(minutes=15)


class AgesUnavailable(SyncError):
    """CloudWatch did not respond, or refused; the text says why."""


def oldest_ages(aws: Aws, names: Sequence[str]) -> dict[str, float]:
    """Seconds since the oldest message was sent, by the SQS name of its queue; 0 where there is none.

    A queue that CloudWatch has no recent figure of is left out: one that nobody used for six hours has none. Needs the
    permission `cloudwatch:GetMetricData`. Raises `AgesUnavailable`.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    moment = now()
    queries = [
        {
            "Id": f"queue{number}",
            "MetricStat": {
                "Metric": {
                    "Namespace": "AWS/SQS",
                    "MetricName": "ApproximateAgeOfOldestMessage",
                    "Dimensions": [{"Name": "QueueName", "Value": name}],
                },
                "Period": _PERIOD_SECONDS,
                "Stat": "Maximum",
            },
        }
        for number, name in enumerate(names)
    ]
    try:
        response = aws.client("cloudwatch").get_metric_data(
            MetricDataQueries=queries, StartTime=moment - _SPAN, EndTime=moment, ScanBy="TimestampDescending"
        )
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise AgesUnavailable(f"CloudWatch: GetMetricData: {code}") from error
    except BotoCoreError as error:
        raise AgesUnavailable(f"CloudWatch: GetMetricData: {type(error).__name__}") from error
    values = {each["Id"]: each["Values"] for each in response["MetricDataResults"]}
    found = {name: values.get(f"queue{number}") for number, name in enumerate(names)}
    return {name: float(newest_first[0]) for name, newest_first in found.items() if newest_first}
