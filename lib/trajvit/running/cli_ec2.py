"""The command line of rented machines. What needs boto3 is imported inside the commands."""

import sys

import click

from trajvit.running.lines import tell
from trajvit.settings import InputError


@click.group()
def ec2() -> None:
    """Runs on rented machines, which end by themselves; results go to S3."""


@ec2.command("launch")
@click.option("--params", help="the YAML file of the run's parameters")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="change a parameter; may be repeated")
@click.option("--resume", metavar="RUN", help="continue this run of --bucket instead, after an interruption")
@click.option("--bucket", required=True, help="s3://bucket/prefix, in which each run gets a folder")
@click.option("--instance", required=True, help="the machine's type, such as c7i.2xlarge or g6.xlarge")
@click.option("--gpus", default=0, show_default=True, help="refuse a type with fewer NVIDIA GPUs")
@click.option("--spot", is_flag=True, help="cheaper, and may be taken away at any time")
@click.option("--max-hours", default=8.0, show_default=True, help="the machine ends then, whatever it does")
@click.option("--role", default="trajvit", show_default=True, help="the machine's instance profile; see ec2 policy")
@click.option("--dry-run", is_flag=True, help="check everything, print the plan, change nothing")
@click.option("--yes", is_flag=True, help="do not ask")
def launch_command(dry_run: bool, yes: bool, **options) -> int:
    """Rent a machine, run the notebooks there, and let it end."""
    from trajvit.running.ec2 import Order, launch

    return launch(Order(**options), dry_run, lambda: yes or _agreed(), tell)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise InputError("nobody is there to say yes to that cost: add --yes")
    return click.confirm("Launch it?")


@ec2.command("status")
@click.option("--bucket", help="tell also of the runs there whose machines are gone")
def status_command(bucket: str | None) -> int:
    """The machines, what they cost so far, and how far their runs are."""
    from trajvit.running.ec2 import status

    for line in status(bucket):
        print(line, flush=True)
    return 0


@ec2.command("stop")
@click.argument("run")
def stop_command(run: str) -> int:
    """End the machine of a RUN, given as its name or its s3://bucket/prefix/RUN."""
    from trajvit.running.ec2 import stop

    for line in stop(run):
        print(line)
    return 0


@ec2.command("logs")
@click.argument("place")
def logs_command(place: str) -> int:
    """What the machine of a run, s3://bucket/prefix/RUN, has printed, up to the last minute."""
    from trajvit.running.ec2 import log

    print(log(place), end="")
    return 0


@ec2.command("policy")
@click.option("--bucket", required=True, help="s3://bucket/prefix of the runs")
def policy_command(bucket: str) -> int:
    """The IAM policy of the machines' role: what they need, and nothing besides."""
    import json

    from trajvit.running.ec2 import policy

    print(json.dumps(policy(bucket), indent=2))
    return 0
