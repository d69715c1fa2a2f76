"""What Amazon offers and has running, and the one request by which a machine is rented."""

from dataclasses import dataclass
from datetime import UTC, datetime

from trajvit.running import prices
from trajvit.running.aws import Refusal, call
from trajvit.settings import InputError

TAG_RUN, TAG_PLACE, TAG_HOURS, TAG_GROUP = "trajvit:run", "trajvit:place", "trajvit:max-hours", "trajvit:group"
ALIVE = ("pending", "running", "stopping", "stopped")
CPU_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{}"
GPU_IMAGE = "/aws/service/deeplearning/ami/{}/base-oss-nvidia-driver-gpu-amazon-linux-2023/latest/ami-id"
DISK_GB, MARGIN_GB = 64, 32  # torch with CUDA takes 8


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


def kind(instance: str, gpus: int, where: str) -> Kind:
    """A type of machine. Raises `InputError` for an unknown one, one that cannot run torch or has too few `gpus`."""
    try:
        told = call("ec2", "describe_instance_types", InstanceTypes=[instance])["InstanceTypes"][0]
    except Refusal as refusal:
        if refusal.code.startswith("InvalidInstanceType"):
            raise InputError(f"--instance {instance}: there is no such type in {where}, try c7i.2xlarge or g6.xlarge") from None
        raise
    cards = [gpu for gpu in told.get("GpuInfo", {}).get("Gpus", []) if gpu["Manufacturer"] == "NVIDIA"]
    architectures = [name for name in told["ProcessorInfo"]["SupportedArchitectures"] if name in ("x86_64", "arm64")]
    if not architectures:
        raise InputError(f"--instance {instance} has no processor that torch runs on: try c7i.2xlarge or g6.xlarge")
    found = Kind(
        instance,
        architectures[0],
        told["VCpuInfo"]["DefaultVCpus"],
        told["MemoryInfo"]["SizeInMiB"] / 1024,
        sum(card["Count"] for card in cards),
        cards[0]["Name"] if cards else "",
    )
    if found.gpus < gpus:
        raise InputError(f"--instance {instance} has {found.gpus} NVIDIA GPUs, asked {gpus}: try g6.xlarge")
    return found


def image(kind: Kind) -> Image:
    """The newest Amazon Linux 2023, for machines with GPUs the one that has NVIDIA's driver."""
    parameter = (GPU_IMAGE if kind.gpus else CPU_IMAGE).format(kind.architecture)
    id = call("ssm", "get_parameter", Name=parameter)["Parameter"]["Value"]
    told = call("ec2", "describe_images", ImageIds=[id])["Images"][0]
    root = told["RootDeviceName"]
    sizes = [disk["Ebs"].get("VolumeSize", 0) for disk in told["BlockDeviceMappings"] if disk["DeviceName"] == root]
    return Image(id, told.get("Name", ""), root, max(DISK_GB, max(sizes, default=0) + MARGIN_GB))


def check_role(role: str, bucket: str) -> None:
    """Raises `InputError` unless there is an instance profile of that name."""
    try:
        call("iam", "get_instance_profile", InstanceProfileName=role)
    except Refusal as refusal:
        if refusal.code != "NoSuchEntity":
            raise
        raise InputError(
            f"there is no instance profile {role!r}: make one whose role has the policy that "
            f"'python -m trajvit ec2 policy --bucket {bucket}' prints (docs/running.md says how), or name it with --role"
        ) from None


def default_vpc(where: str) -> str:
    """The network in which machines can reach S3 and package registries. Raises `InputError` where there is none."""
    found = call("ec2", "describe_vpcs", Filters=_filters([("is-default", "true")]))["Vpcs"]
    if not found:
        raise InputError(f"{where} has no default network: make it with 'aws ec2 create-default-vpc'")
    return found[0]["VpcId"]


def group(vpc: str) -> str | None:
    """The security group that lets nothing in, once it has been made."""
    found = call("ec2", "describe_security_groups", Filters=_filters([(f"tag:{TAG_GROUP}", "no-inbound"), ("vpc-id", vpc)]))
    for group in found["SecurityGroups"]:
        if group["IpPermissions"]:
            raise InputError(f"security group {group['GroupId']} has been opened: remove its inbound rules, a run needs none")
        return group["GroupId"]
    return None


def made_group(vpc: str) -> str:
    """That group, made now."""
    tags = [{"Key": TAG_GROUP, "Value": "no-inbound"}, {"Key": "Name", "Value": "trajvit-no-inbound"}]
    return call(
        "ec2",
        "create_security_group",
        GroupName="trajvit-no-inbound",
        Description="trajvit: lets nothing in",
        VpcId=vpc,
        TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
    )["GroupId"]


def request(kind: Kind, image: Image, role: str, script: str, tags: dict[str, str], spot: bool) -> dict:
    """What is asked of Amazon: one machine that runs `script`, is closed and encrypted, and is gone once it shuts down."""
    tagged = [{"Key": key, "Value": value} for key, value in tags.items()]
    disk = {"VolumeSize": image.disk_gb, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True}
    market = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}}
    return {
        "ImageId": image.id,
        "InstanceType": kind.name,
        "MinCount": 1,
        "MaxCount": 1,
        "UserData": script,
        "IamInstanceProfile": {"Name": role},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MaintenanceOptions": {"AutoRecovery": "disabled"},  # which would be a reboot
        "MetadataOptions": {"HttpTokens": "required", "HttpEndpoint": "enabled", "HttpPutResponseHopLimit": 1},
        "BlockDeviceMappings": [{"DeviceName": image.root, "Ebs": disk}],
        "TagSpecifications": [{"ResourceType": what, "Tags": tagged} for what in ("instance", "volume")],
    } | ({"InstanceMarketOptions": market} if spot else {})


def network(group: str | None) -> dict:
    """The part of the request that names the security group."""
    return {} if group is None else {"SecurityGroupIds": [group]}


def rehearse(request: dict) -> None:
    """Ask Amazon whether it would do that. Raises `InputError` where not."""
    try:
        call("ec2", "run_instances", DryRun=True, **request)
    except Refusal as refusal:
        if refusal.code != "DryRunOperation":
            raise


def spot_price(instance: str) -> float | None:
    """The highest of the zones' spot prices now, in dollars an hour; None where Amazon tells none."""
    told = call(
        "ec2",
        "describe_spot_price_history",
        InstanceTypes=[instance],
        ProductDescriptions=["Linux/UNIX"],
        StartTime=datetime.now(UTC),
    )["SpotPriceHistory"]
    return max((float(price["SpotPrice"]) for price in told if price.get("SpotPrice")), default=None)


def machines(filters: list[tuple[str, ...]]) -> list[Machine]:
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
