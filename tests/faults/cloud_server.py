"""moto's EC2, S3, IAM and SSM behind a real HTTP server, and what tests ask of it."""

import base64
import io
import shutil
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

import boto3
from bucket_server import Server
from trajvit.running.places import ROOT

REGION = "us-east-1"
EC2_REFUSAL = "<?xml version='1.0'?><Response><Errors><Error><Code>{0}</Code><Message>{0}.</Message></Error></Errors></Response>"


@cache
def amazon(service: str):
    """Amazon as it is, whatever the test has done to the settings that the commands see."""
    return boto3.client(service, region_name=REGION, aws_access_key_id="key", aws_secret_access_key="secret")


class Cloud(Server):
    """An Amazon of its own, which can refuse single actions, and notes all that change something."""

    def __init__(self):
        super().__init__()
        self.refused: dict[str, str] = {}  # by action: the code
        self.changes: list[str] = []

    def answer(self, request, respond):
        action, dry = self._action(request)
        if action in self.refused and not dry:
            respond("400 Bad Request", [("Content-Type", "text/xml")])
            return [EC2_REFUSAL.format(self.refused[action]).encode()]
        if action.startswith(("Run", "Create", "Terminate", "Put", "Delete", "Authorize")) and not dry:
            self.changes.append(action)
        return super().answer(request, respond)

    def _action(self, request) -> tuple[str, bool]:
        if request.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            body = request["wsgi.input"].read(int(request["CONTENT_LENGTH"]))
            request["wsgi.input"] = io.BytesIO(body)
            asked = parse_qs(body.decode())
            return asked["Action"][0], asked.get("DryRun") == ["true"]
        return ("Put" if request["REQUEST_METHOD"] in ("PUT", "DELETE") else ""), False


def machines(state: str = "running") -> list[dict]:
    client = amazon("ec2")
    found = client.describe_instances(Filters=[{"Name": "instance-state-name", "Values": [state]}])
    return [instance for reservation in found["Reservations"] for instance in reservation["Instances"]]


def script(instance: dict) -> str:
    told = amazon("ec2").describe_instance_attribute(InstanceId=instance["InstanceId"], Attribute="userData")
    return base64.b64decode(told["UserData"]["Value"]).decode()


def tags(of: dict) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in of["Tags"]}


def git(root: Path, *arguments: str) -> None:
    settings = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *settings, *arguments], cwd=root, check=True, capture_output=True)


def clone(root: Path) -> Path:
    """What is in this tree now, as a repository of one commit."""
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints", "_lock", "_tmp", "PROGRESS.*")
    for name in ("lib", "notebooks", "data/smoke"):
        shutil.copytree(ROOT / name, root / name, ignore=skipped)
    (root / "reports").mkdir()
    for name in ("reports/ablations.json", "pyproject.toml", "requirements.txt", ".gitignore", ".gitattributes", "README.md"):
        shutil.copy(ROOT / name, root / name)
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "all")
    return root
