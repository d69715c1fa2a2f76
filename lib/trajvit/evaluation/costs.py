"""What data of any size costs in time, bytes and dollars, from measured rates; and those rates as metrics."""

import math
from dataclasses import dataclass

from trajvit.datasets.store import ARRAYS, default_shard_size
from trajvit.evaluation.measure import Metric
from trajvit.worlds.config import ClipShape

# On-demand prices in us-east-1, from AWS's public price lists; taxes, credits and spot discounts are not in them.
DOLLARS_PER_CORE_HOUR = 0.05132  # c7a.large: 2 vCPU for $0.10264 an hour
DOLLARS_PER_GB_MONTH = 0.023  # S3 Standard, the first 50 TB
DOLLARS_PER_PUT = 0.005 / 1000  # S3 Standard; one request a file
FILES_PER_SHARD = len(ARRAYS) + 1  # one an array, and the record


@dataclass(frozen=True)
class Cost:
    """What `samples` clips cost: hours of one machine, machines with which it takes an hour at most, GB (10^9 bytes) on
    disk, dollars for the cores and for the requests to S3, and dollars a month to keep them there."""

    samples: int
    hours: float
    machines: int
    gigabytes: float
    compute_dollars: float
    request_dollars: float
    dollars_per_month: float


def cost(samples: int, shape: ClipShape, per_second: float, cores: int, bytes_per_sample: float) -> Cost:
    """The cost of `samples` clips of a shape on machines of `cores` cores that each make `per_second` of them, compressed
    to `bytes_per_sample`. Machines share nothing but the bucket, so their rates add up."""
    hours = samples / per_second / 3600
    gigabytes = samples * bytes_per_sample / 1e9
    return Cost(
        samples=samples,
        hours=hours,
        machines=math.ceil(hours),
        gigabytes=gigabytes,
        compute_dollars=hours * cores * DOLLARS_PER_CORE_HOUR,
        request_dollars=math.ceil(samples / default_shard_size(shape)) * FILES_PER_SHARD * DOLLARS_PER_PUT,
        dollars_per_month=gigabytes * DOLLARS_PER_GB_MONTH,
    )


def score_speed(speed: dict[str, float]) -> dict[str, Metric]:
    """What `bench_generate` measured, as metrics: beside the frame-by-frame loop, and the filling of memory as limit."""
    beside = {"baselines": {"loop": speed["loop_per_s"]}, "limit": speed["fill_per_s"]}
    rates = {"in_memory": "in_memory", "to_disk_1_process": "workers_1", "to_disk_2_processes": "workers_2"}
    return {
        name: Metric(value=speed[f"{rate}_per_s"], unit="clips/s", more_is_better=True, **beside) for name, rate in rates.items()
    } | {
        "bytes_per_clip": Metric(value=speed["bytes_per_sample"], unit="bytes"),
    }
