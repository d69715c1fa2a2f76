import pytest
from trajvit.datasets.store import default_shard_size
from trajvit.evaluation.costs import DOLLARS_PER_CORE_HOUR, DOLLARS_PER_GB_MONTH, DOLLARS_PER_PUT, cost, score_speed
from trajvit.worlds.config import WorldConfig

COMPACT = WorldConfig.named("compact")


def test_an_hour_of_one_machine_is_an_hour_of_its_cores():
    found = cost(3600 * 1000, COMPACT, per_second=1000.0, cores=2, bytes_per_sample=250.0)
    assert (found.hours, found.machines, found.gigabytes) == (1.0, 1, 0.9)
    assert found.compute_dollars == pytest.approx(2 * DOLLARS_PER_CORE_HOUR)
    assert found.dollars_per_month == pytest.approx(0.9 * DOLLARS_PER_GB_MONTH)


def test_each_shard_is_written_as_six_files():
    samples = 10 * default_shard_size(COMPACT) + 1
    assert cost(samples, COMPACT, 1000.0, 2, 250.0).request_dollars == pytest.approx(11 * 6 * DOLLARS_PER_PUT)


def test_enough_machines_are_named_to_be_done_within_an_hour():
    assert cost(10**9, COMPACT, per_second=50_000.0, cores=2, bytes_per_sample=440.0).machines == 6  # 5.6 hours of one


def test_speed_stands_between_its_baseline_and_its_limit():
    speed = {"in_memory_per_s": 300.0, "workers_1_per_s": 20.0, "workers_2_per_s": 30.0, "loop_per_s": 3.0, "fill_per_s": 900.0}
    scored = score_speed(speed | {"bytes_per_sample": 440.0})
    assert scored["in_memory"].baselines == {"loop": 3.0} and scored["in_memory"].limit == 900.0
    assert scored["to_disk_2_processes"].value == 30.0 and scored["bytes_per_clip"].unit == "bytes"
