"""Runs on rented machines of Amazon EC2: what a launch needs is checked before anything is paid for or changed.

A machine is told by its tags, a run by its prefix `s3://bucket/prefix/RUN`:
  source.tar.gz, parameters.yaml       what runs, uploaded by `launch`
  PROGRESS.json and .txt, machine.log  how it goes, every few seconds and every minute
  results/, RESULTS.json               what the run has made, from which another machine can go on
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import yaml
from pydantic import Field

from trajvit.datasets.bucket import Bucket, open_bucket
from trajvit.datasets.progress import watch
from trajvit.running import prices, renting
from trajvit.running.archive import Archive, pack
from trajvit.running.aws import Refusal, call, region
from trajvit.running.places import NAME, ROOT, bucket_place
from trajvit.running.renting import ALIVE, TAG_HOURS, TAG_PLACE, TAG_RUN, Image, Kind, machines
from trajvit.running.user_data import user_data
from trajvit.settings import InputError, Settings


class Order(Settings):
    """What a user asks of a launch."""

    bucket: str
    instance: str = Field(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$", description="such as c7i.2xlarge")
    params: str | None = None
    changes: tuple[str, ...] = ()
    resume: str | None = Field(None, pattern=rf"^{NAME}$", description="the run to continue")
    spot: bool = False
    gpus: int = Field(0, ge=0, description="NVIDIA GPUs that the machine must have")
    max_hours: float = Field(8.0, ge=0.1, le=24 * 14)
    role: str = Field("trajvit", pattern=r"^[\w+=,.@-]{1,64}$", description="instance profile")


@dataclass(frozen=True)
class Job:
    """A run that is to be launched: its place, and what is to be uploaded there, nothing for one that is continued."""

    place: str
    uploads: dict[str, bytes]
    what: str

    @property
    def run(self) -> str:
        return self.place.rpartition("/")[2]


def launch(order: Order, dry_run: bool, agreed: Callable[[], bool], say: Callable[[str], None]) -> int:
    """Rent a machine that does a run and ends; the exit code.

    `agreed` is asked once, after everything has been checked and the plan has been said. With `dry_run` nothing is
    changed anywhere. Raises `InputError` before anything is paid for.
    """
    where = region()
    job = _continued(order) if order.resume else _new(order)
    _check_bucket(job.place, where)
    _refuse_second(job)
    kind = renting.kind(order.instance, order.gpus, where)
    image = renting.image(kind)
    renting.check_role(order.role, order.bucket)
    vpc = renting.default_vpc(where)
    group = renting.group(vpc)
    tags = {"Name": f"trajvit {job.run}", TAG_RUN: job.run, TAG_PLACE: job.place, TAG_HOURS: f"{order.max_hours:g}"}
    script = user_data(job.place, where, order.max_hours)
    request = renting.request(kind, image, order.role, script, tags, order.spot)
    renting.rehearse(request | renting.network(group))
    for line in _plan(order, job, kind, image, where):
        say(line)
    if dry_run:
        say("dry run: everything is in place, nothing was launched or changed")
        return 0
    if not agreed():
        say("nothing was launched")
        return 0
    for key, content in job.uploads.items():
        Bucket(job.place).write(key, content)
    started = call("ec2", "run_instances", **request | renting.network(group or renting.made_group(vpc)))
    say(f"{job.run}: {started['Instances'][0]['InstanceId']} is starting")
    say(f"  follow it   python -m trajvit watch {job.place}   (its first words come after a few minutes)")
    say(f"  its log     python -m trajvit ec2 logs {job.place}")
    say(f"  continue    python -m trajvit ec2 launch --resume {job.run} --bucket {order.bucket} --instance {order.instance}")
    return 0


def status(bucket: str | None) -> Iterator[str]:
    """Lines on the machines that there are or were until lately, and on the runs in a bucket whose machines are gone."""
    found = machines([("tag-key", TAG_RUN)])
    places = {machine.place for machine in found}
    if not found:
        yield f"no machine of a run is in {region()}, or was lately"
    for machine in found:
        yield str(machine)
        yield f"  {machine.place}: {_said(machine.place)}"
    if bucket is not None:
        for name in sorted(_bucket(bucket).names()):
            place = f"{bucket_place(bucket)}/{name}"
            if place not in places and Bucket(place).read("parameters.yaml") is not None:
                yield f"{name}: no machine"
                yield f"  {place}: {_said(place)}"


def stop(run: str) -> Iterator[str]:
    """End the machine of a run, named by itself or by its place; what it has sent stays. Raises `InputError`."""
    tag = TAG_PLACE if run.startswith("s3://") else TAG_RUN
    found = machines([(f"tag:{tag}", run.rstrip("/")), ("instance-state-name", *ALIVE)])
    if not found:
        raise InputError(f"no machine of {run} runs in {region()}: see 'python -m trajvit ec2 status'")
    if len(places := sorted({machine.place for machine in found})) > 1:
        raise InputError(f"{run} runs for {' and for '.join(places)}: name the one to stop")
    call("ec2", "terminate_instances", InstanceIds=[machine.id for machine in found])
    for machine in found:
        yield f"{machine.id} of {machine.run} ends; results up to the last minute are in {machine.place}/results"


def log(place: str) -> str:
    """What the machine of a run has printed, up to the last minute; before that, what its console shows."""
    content = _bucket(place).read("machine.log")
    if content is not None:
        return content.decode(errors="replace")
    found = machines([(f"tag:{TAG_PLACE}", place.rstrip("/"))])
    if not found:
        raise InputError(f"{place} has no machine.log, nor has a machine worked there lately: name s3://bucket/prefix/RUN")
    console = call("ec2", "get_console_output", InstanceId=found[-1].id).get("Output", "")
    return f"no log yet; the console of {found[-1].id}:\n{console}\n"


def policy(bucket: str) -> dict:
    """The least that a machine's role must be allowed: its runs' prefix, and nothing besides."""
    name, _, prefix = bucket_place(bucket).removeprefix("s3://").partition("/")
    inside = f"{prefix}/*" if prefix else "*"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "ListRuns",
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": f"arn:aws:s3:::{name}",
                "Condition": {"StringLike": {"s3:prefix": inside}},
            },
            {
                "Sid": "ReadAndWriteRuns",
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                "Resource": f"arn:aws:s3:::{name}/{inside}",
            },
        ],
    }


# What is to run


def _new(order: Order) -> Job:
    """A run of parameters, named after them."""
    if order.params is None:
        raise InputError("what is to run? give --params notebooks/params/production.yaml, or --resume RUN")
    stem = Path(order.params).stem
    if not re.fullmatch(NAME, stem):
        raise InputError(f"a run takes the name of its parameters' file, and {stem!r} cannot be one: use letters, digits, . _ -")
    values = _in_a_child(order.params, list(order.changes))
    archive: Archive = pack(ROOT)
    content = yaml.safe_dump(values, sort_keys=False).encode()
    place = f"{bucket_place(order.bucket)}/{stem}-{hashlib.sha256(content).hexdigest()[:8]}"
    size = len(archive.content) / 2**20
    return Job(
        place,
        {"source.tar.gz": archive.content, "parameters.yaml": content},
        f"{order.params}, commit {archive.commit[:10]} ({size:.1f} MB)",
    )


def _continued(order: Order) -> Job:
    """A run that is on S3, with the source and parameters that it began with."""
    if order.params or order.changes:
        raise InputError(f"--resume {order.resume} goes on with its own parameters: leave --params and --set out")
    place = f"{bucket_place(order.bucket)}/{order.resume}"
    missing = {"source.tar.gz", "parameters.yaml"} - _bucket(place).names()
    if missing:
        raise InputError(f"{place} has no {' and no '.join(sorted(missing))}: see 'ec2 status --bucket {order.bucket}' for runs")
    return Job(place, {}, "what is on S3 already, continued")


def _in_a_child(params: str, changes: list[str]) -> dict:
    """`_parameters` in a process of its own, since checking parameters builds models, and that takes torch."""
    with ProcessPoolExecutor(1, get_context("spawn")) as child:
        return child.submit(_parameters, params, changes).result()


def _parameters(params: str, changes: list[str]) -> dict:
    """All parameters of a run. Raises `InputError` for wrong ones, and for data that the machine would not have."""
    from trajvit.datasets.folders import open_folder
    from trajvit.datasets.store import ImportedConfig, read_config
    from trajvit.magvit.published import published
    from trajvit.running.parameters import PUBLISHED, read_parameters
    from trajvit.worlds.streams import SPLITS

    parameters = read_parameters(params, changes)
    parameters.check_ladder()
    for split in SPLITS:
        if isinstance(read_config(open_folder(parameters.data(split))), ImportedConfig):
            raise InputError(
                f"{parameters.data(split)} was imported, and only the source is sent to the machine, which would film clips "
                "instead: set another data_dir"
            )
    if parameters.checkpoint not in ("", PUBLISHED, *published()):
        raise InputError(
            f"checkpoint = {parameters.checkpoint!r} is not in the source, which is all that is sent to the machine: name one of "
            f"{', '.join(published())}"
        )
    return parameters.model_dump(mode="json", exclude={"run_dir"})


# What must be in place


def _bucket(place: str) -> Bucket:
    """A place that has answered. Raises `InputError`."""
    return open_bucket(bucket_place(place))


def _check_bucket(place: str, where: str) -> None:
    name = place.removeprefix("s3://").partition("/")[0]
    try:
        its = call("s3", "head_bucket", Bucket=name).get("BucketRegion") or where
    except Refusal as refusal:
        meaning = {"404": "there is no such bucket", "403": "access denied", "301": "it is in another region"}
        raise InputError(f"s3://{name} cannot be used: {meaning.get(refusal.code, refusal)}") from None
    if its != where:
        raise InputError(f"s3://{name} is in {its} and the machine would be in {where}: set AWS_DEFAULT_REGION={its}")
    _bucket(place)


def _refuse_second(job: Job) -> None:
    alive = machines([(f"tag:{TAG_PLACE}", job.place), ("instance-state-name", *ALIVE)])
    if alive:
        raise InputError(f"{job.place} is in use by {alive[0].id}: watch it, or end it with 'ec2 stop {job.run}'")
    if job.uploads and "PROGRESS.json" in Bucket(job.place).names():
        raise InputError(f"{job.place} holds this run already ({_said(job.place)}): continue it with --resume {job.run}")


def _plan(order: Order, job: Job, kind: Kind, image: Image, where: str) -> Iterator[str]:
    spot = renting.spot_price(kind.name) if order.spot else None
    yield f"run      {job.run}: {job.what}"
    yield f"place    {job.place}"
    yield f"machine  {kind} in {where}, {'spot' if order.spot else 'on demand'}, role {order.role}"
    yield f"system   {image.name or image.id} ({image.id}), {image.disk_gb} GB encrypted, no inbound port, IMDSv2"
    yield f"ends     when the run is done or fails, at the latest after {order.max_hours:g} h"
    yield f"cost     {prices.estimate(kind.name, spot, image.disk_gb, order.max_hours, where)}"


def _said(place: str) -> str:
    """What a run last told of itself."""
    try:
        return "; ".join(map(str, next(watch(Bucket(place)))))
    except (InputError, OSError):
        return "nothing told yet"
