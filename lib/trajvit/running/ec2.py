"""Runs on rented machines of Amazon EC2: what a launch needs is checked before anything is paid for or changed.

A machine is told by its tags, a run by its prefix `s3://bucket/prefix/RUN`:
  source.tar.gz, parameters.yaml       what runs, uploaded by `launch`
  PROGRESS.json and .txt, machine.log  how it goes, every few seconds and every minute
  results/, RESULTS.json               what the run has made, from which another machine can go on
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import yaml
from pydantic import Field

from trajvit.datasets.bucket import Bucket, open_bucket
from trajvit.datasets.progress import watch
from trajvit.running import prices
from trajvit.running.archive import Archive, pack
from trajvit.running.aws import Refusal, call, region
from trajvit.running.places import ROOT
from trajvit.running.user_data import user_data
from trajvit.settings import InputError, Settings

TAG_RUN, TAG_PLACE, TAG_HOURS, TAG_GROUP = "trajvit:run", "trajvit:place", "trajvit:max-hours", "trajvit:group"
ALIVE = ("pending", "running", "stopping", "stopped")
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
PLACE = rf"s3://[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9](/{NAME})*"
CPU_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{}"
GPU_IMAGE = "/aws/service/deeplearning/ami/{}/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
DISK_GB, MARGIN_GB = 64, 32  # torch with CUDA takes 8


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
class Kind:
    """A type of machine."""

    name: str
    architecture: str
    cpus: int
    memory_gb: float
    gpus: int
    gpu: str

    def __str__(self) -> str:
        gpus = f", {self.gpus} NVIDIA {self.gpu}" if self.gpus else ""
        return f"{self.name} ({self.architecture}, {self.cpus} CPUs, {self.memory_gb:.0f} GB{gpus})"


@dataclass(frozen=True)
class Image:
    """What a machine's disk begins with."""

    id: str
    name: str
    root: str
    disk_gb: int


@dataclass(frozen=True)
class Job:
    """A run that is to be launched: its place, and what is to be uploaded there, nothing for one that is continued."""

    place: str
    uploads: dict[str, bytes]
    what: str

    @property
    def run(self) -> str:
        return self.place.rpartition("/")[2]


@dataclass(frozen=True)
class Machine:
    """A machine of a run, as Amazon tells of it."""

    id: str
    run: str
    place: str
    kind: str
    state: str
    spot: bool
    started: datetime

    def __str__(self) -> str:
        market = "spot" if self.spot else "on demand"
        hours = (datetime.now(UTC) - self.started).total_seconds() / 3600
        price = prices.hourly(self.kind, None, DISK_GB)
        up = f", up {hours:.1f} h" if self.state in ALIVE else ""
        cost = f", at most ${price * hours:.2f} so far" if up and price is not None else ""
        return f"{self.run}: {self.id} {self.kind} {market}, {self.state}{up}{cost}"


def launch(order: Order, dry_run: bool, agreed: Callable[[], bool], say: Callable[[str], None]) -> int:
    """Rent a machine that does a run and ends; the exit code.

    `agreed` is asked once, after everything has been checked and the plan has been said. With `dry_run` nothing is
    changed anywhere. Raises `InputError` before anything is paid for.
    """
    where = region()
    job = _continued(order) if order.resume else _new(order)
    _check_bucket(job.place, where)
    _refuse_second(job)
    kind = _kind(order, where)
    image = _image(kind)
    _check_role(order)
    vpc = _default_vpc(where)
    request = _request(order, job, kind, image, where) | _network(_group(vpc))
    _rehearse(request)
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
    started = call("ec2", "run_instances", **request | _network(_group(vpc) or _made_group(vpc)))
    say(f"{job.run}: {started['Instances'][0]['InstanceId']} is starting")
    say(f"  follow it   python -m trajvit watch {job.place}   (its first words come after a few minutes)")
    say(f"  its log     python -m trajvit ec2 logs {job.place}")
    say(f"  continue    python -m trajvit ec2 launch --resume {job.run} --bucket {order.bucket} --instance {order.instance}")
    return 0


def status(bucket: str | None) -> Iterator[str]:
    """Lines on the machines that there are or were until lately, and on the runs in a bucket whose machines are gone."""
    machines = _machines([("tag-key", TAG_RUN)])
    places = {machine.place for machine in machines}
    if not machines:
        yield f"no machine of a run is in {region()}, or was lately"
    for machine in machines:
        yield str(machine)
        yield f"  {machine.place}: {_said(machine.place)}"
    if bucket is not None:
        for name in sorted(_bucket(bucket).names()):
            place = f"{_checked_place(bucket)}/{name}"
            if place not in places and Bucket(place).read("parameters.yaml") is not None:
                yield f"{name}: no machine"
                yield f"  {place}: {_said(place)}"


def stop(run: str) -> Iterator[str]:
    """End the machine of a run, named by itself or by its place; what it has sent stays. Raises `InputError`."""
    tag = TAG_PLACE if run.startswith("s3://") else TAG_RUN
    machines = _machines([(f"tag:{tag}", run.rstrip("/")), ("instance-state-name", *ALIVE)])
    if not machines:
        raise InputError(f"no machine of {run} runs in {region()}: see 'python -m trajvit ec2 status'")
    if len(places := sorted({machine.place for machine in machines})) > 1:
        raise InputError(f"{run} runs for {' and for '.join(places)}: name the one to stop")
    call("ec2", "terminate_instances", InstanceIds=[machine.id for machine in machines])
    for machine in machines:
        yield f"{machine.id} of {machine.run} ends; results up to the last minute are in {machine.place}/results"


def log(place: str) -> str:
    """What the machine of a run has printed, up to the last minute; before that, what its console shows."""
    content = _bucket(place).read("machine.log")
    if content is not None:
        return content.decode(errors="replace")
    machines = _machines([(f"tag:{TAG_PLACE}", place.rstrip("/"))])
    if not machines:
        raise InputError(f"{place} has no machine.log, nor has a machine worked there lately: name s3://bucket/prefix/RUN")
    console = call("ec2", "get_console_output", InstanceId=machines[-1].id).get("Output", "")
    return f"no log yet; the console of {machines[-1].id}:\n{console}\n"


def policy(bucket: str) -> dict:
    """The least that a machine's role must be allowed: its runs' prefix, and nothing besides."""
    name, _, prefix = _checked_place(bucket).removeprefix("s3://").partition("/")
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
    place = f"{_checked_place(order.bucket)}/{stem}-{hashlib.sha256(content).hexdigest()[:8]}"
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
    place = f"{_checked_place(order.bucket)}/{order.resume}"
    missing = {"source.tar.gz", "parameters.yaml"} - _bucket(place).names()
    if missing:
        raise InputError(f"{place} has no {' and no '.join(sorted(missing))}: see 'ec2 status --bucket {order.bucket}' for runs")
    return Job(place, {}, "what is on S3 already, continued")


def _in_a_child(params: str, changes: list[str]) -> dict:
    """`_parameters` in a process of its own, since checking parameters builds models, and that takes torch."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_parameters, (params, changes))


def _parameters(params: str, changes: list[str]) -> dict:
    """All parameters of a run. Raises `InputError` for wrong ones, and for data that the machine would not have."""
    from trajvit.datasets.folders import open_folder
    from trajvit.datasets.store import ImportedConfig, read_config
    from trajvit.running.parameters import read_parameters
    from trajvit.worlds.streams import SPLITS

    parameters = read_parameters(params, changes)
    for split in SPLITS:
        if isinstance(read_config(open_folder(parameters.data(split))), ImportedConfig):
            raise InputError(
                f"{parameters.data(split)} was imported, and only the source is sent to the machine, which would film clips "
                "instead: set another data_dir"
            )
    return parameters.model_dump(mode="json", exclude={"run_dir"})


# What must be in place


def _checked_place(bucket: str) -> str:
    """Raises `InputError` unless a place is made of what needs no quoting anywhere."""
    if not re.fullmatch(PLACE, place := bucket.rstrip("/")) or len(place) > 150:
        raise InputError(f"{bucket!r} is not a place for runs: write s3://bucket/prefix, in letters, digits, . _ -")
    return place


def _bucket(place: str) -> Bucket:
    """A place that has answered. Raises `InputError`."""
    return open_bucket(_checked_place(place))


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
    alive = _machines([(f"tag:{TAG_PLACE}", job.place), ("instance-state-name", *ALIVE)])
    if alive:
        raise InputError(f"{job.place} is in use by {alive[0].id}: watch it, or end it with 'ec2 stop {job.run}'")
    if job.uploads and "PROGRESS.json" in Bucket(job.place).names():
        raise InputError(f"{job.place} holds this run already ({_said(job.place)}): continue it with --resume {job.run}")


def _kind(order: Order, where: str) -> Kind:
    try:
        told = call("ec2", "describe_instance_types", InstanceTypes=[order.instance])["InstanceTypes"][0]
    except Refusal as refusal:
        if refusal.code.startswith("InvalidInstanceType"):
            raise InputError(
                f"--instance {order.instance}: there is no such type in {where}, try c7i.2xlarge or g6.xlarge"
            ) from None
        raise
    gpus = [gpu for gpu in told.get("GpuInfo", {}).get("Gpus", []) if gpu["Manufacturer"] == "NVIDIA"]
    architectures = [name for name in told["ProcessorInfo"]["SupportedArchitectures"] if name in ("x86_64", "arm64")]
    if not architectures:
        raise InputError(f"--instance {order.instance} has no processor that torch runs on: try c7i.2xlarge or g6.xlarge")
    kind = Kind(
        order.instance,
        architectures[0],
        told["VCpuInfo"]["DefaultVCpus"],
        told["MemoryInfo"]["SizeInMiB"] / 1024,
        sum(gpu["Count"] for gpu in gpus),
        gpus[0]["Name"] if gpus else "",
    )
    if kind.gpus < order.gpus:
        raise InputError(f"--instance {order.instance} has {kind.gpus} NVIDIA GPUs, asked {order.gpus}: try g6.xlarge")
    return kind


def _image(kind: Kind) -> Image:
    """The newest Amazon Linux 2023, for machines with GPUs the one that has NVIDIA's driver."""
    parameter = (GPU_IMAGE if kind.gpus else CPU_IMAGE).format(kind.architecture)
    id = call("ssm", "get_parameter", Name=parameter)["Parameter"]["Value"]
    told = call("ec2", "describe_images", ImageIds=[id])["Images"][0]
    root = told["RootDeviceName"]
    sizes = [disk["Ebs"].get("VolumeSize", 0) for disk in told["BlockDeviceMappings"] if disk["DeviceName"] == root]
    return Image(id, told.get("Name", ""), root, max(DISK_GB, max(sizes, default=0) + MARGIN_GB))


def _check_role(order: Order) -> None:
    try:
        call("iam", "get_instance_profile", InstanceProfileName=order.role)
    except Refusal as refusal:
        if refusal.code != "NoSuchEntity":
            raise
        raise InputError(
            f"there is no instance profile {order.role!r}: make one whose role has the policy that "
            f"'python -m trajvit ec2 policy --bucket {order.bucket}' prints (README says how), or name it with --role"
        ) from None


def _default_vpc(where: str) -> str:
    found = call("ec2", "describe_vpcs", Filters=_filters([("is-default", "true")]))["Vpcs"]
    if not found:
        raise InputError(f"{where} has no default network: make it with 'aws ec2 create-default-vpc'")
    return found[0]["VpcId"]


def _group(vpc: str) -> str | None:
    """The security group that lets nothing in, once it has been made."""
    found = call("ec2", "describe_security_groups", Filters=_filters([(f"tag:{TAG_GROUP}", "no-inbound"), ("vpc-id", vpc)]))
    for group in found["SecurityGroups"]:
        if group["IpPermissions"]:
            raise InputError(f"security group {group['GroupId']} has been opened: remove its inbound rules, a run needs none")
        return group["GroupId"]
    return None


def _made_group(vpc: str) -> str:
    tags = [{"Key": TAG_GROUP, "Value": "no-inbound"}, {"Key": "Name", "Value": "trajvit-no-inbound"}]
    return call(
        "ec2",
        "create_security_group",
        GroupName="trajvit-no-inbound",
        Description="trajvit: lets nothing in",
        VpcId=vpc,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
    )["GroupId"]


# The request


def _request(order: Order, job: Job, kind: Kind, image: Image, where: str) -> dict:
    tags = {"Name": f"trajvit {job.run}", TAG_RUN: job.run, TAG_PLACE: job.place, TAG_HOURS: f"{order.max_hours:g}"}
    tagged = [{"Key": key, "Value": value} for key, value in tags.items()]
    disk = {"VolumeSize": image.disk_gb, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    spot = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}}
    return {
        "ImageId": image.id,
        "InstanceType": kind.name,
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": user_data(job.place, where, order.max_hours),
        "IamInstanceProfile": {"Name": order.role},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": image.root, "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": what, "Tags": tagged} for what in ("instance", "volume")],
    } | ({"InstanceMarketOptions": spot} if order.spot else {})


def _network(group: str | None) -> dict:
    return {} if group is None else {"SecurityGroupIds": [group]}


def _rehearse(request: dict) -> None:
    """Ask Amazon whether it would do that. Raises `InputError` where not."""
    try:
        call("ec2", "run_instances", DryRun=True, **request)
    except Refusal as refusal:
        if refusal.code != "DryRunOperation":
            raise


def _plan(order: Order, job: Job, kind: Kind, image: Image, where: str) -> Iterator[str]:
    spot = _spot_price(kind.name) if order.spot else None
    yield f"run      {job.run}: {job.what}"
    yield f"place    {job.place}"
    yield f"machine  {kind} in {where}, {'spot' if order.spot else 'on demand'}, role {order.role}"
    yield f"system   {image.name or image.id} ({image.id}), {image.disk_gb} GB encrypted, no inbound port, IMDSv2"
    yield f"ends     when the run is done or fails, at the latest after {order.max_hours:g} h"
    yield f"cost     {prices.estimate(kind.name, spot, image.disk_gb, order.max_hours, where)}"


def _spot_price(instance: str) -> float | None:
    """The highest of the zones' spot prices now, in dollars an hour; None where Amazon tells none."""
    told = call(
        "ec2",
        "describe_spot_price_history",
        InstanceTypes=[instance],
        ProductDescriptions=["Linux/UNIX"],
        StartTime=datetime.fromtimestamp(time.time(), UTC),
    )["SpotPriceHistory"]
    return max((float(price["SpotPrice"]) for price in told if price.get("SpotPrice")), default=None)


# What there is


def _machines(filters: list[tuple[str, ...]]) -> list[Machine]:
    """The machines that fit, the newest last."""
    told = call("ec2", "describe_instances", Filters=_filters(filters))["Reservations"]
    found = []
    for instance in (instance for reservation in told for instance in reservation["Instances"]):
        tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
        found.append(
            Machine(
                instance["InstanceId"],
                tags.get(TAG_RUN, ""),
                tags.get(TAG_PLACE, ""),
                instance["InstanceType"],
                instance["State"]["Name"],
                instance.get("InstanceLifecycle") == "spot",
                instance["LaunchTime"],
            )
        )
    return sorted(found, key=lambda machine: machine.started)


def _filters(wanted: list[tuple[str, ...]]) -> list[dict]:
    return [{"Name": name, "Values": list(values)} for name, *values in wanted]


def _said(place: str) -> str:
    """What a run last told of itself."""
    try:
        return "; ".join(map(str, next(watch(Bucket(place)))))
    except (InputError, OSError):
        return "nothing told yet"
