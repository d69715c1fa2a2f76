"""Runs on EC2: moto behind a real HTTP server answers for Amazon."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trajvit
import yaml
from cloud_server import REGION, Cloud, amazon, clone, machines, script, tags
from trajvit.datasets.bucket import Bucket
from trajvit.datasets.store import ImportedConfig
from trajvit.running import aws, ec2, prices, renting
from trajvit.running.cli import main
from trajvit.running.places import ROOT
from trajvit.running.user_data import LIMIT, user_data


@pytest.fixture
def tell(capsys):
    def told(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["ec2", *arguments])
        out = capsys.readouterr()
        return code, out.out + out.err

    return told


# What a launch asks Amazon for


def test_a_launched_machine_is_closed_encrypted_tagged_and_ends_by_itself(launch, bucket):
    code, said = launch(max_hours="3")
    assert code == 0, said
    (machine,) = machines()
    run = tags(machine)["trajvit:run"]
    assert run.startswith("tiny-") and tags(machine) == {
        "Name": f"trajvit {run}",
        "trajvit:run": run,
        "trajvit:place": f"{bucket}/{run}",
        "trajvit:max-hours": "3",
    }
    assert machine["MetadataOptions"]["HttpTokens"] == "required" and machine["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert machine["IamInstanceProfile"]["Arn"].endswith("/trajvit") and "KeyName" not in machine
    client = amazon("ec2")
    (volume,) = client.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [machine["InstanceId"]]}])[
        "Volumes"
    ]
    assert volume["Encrypted"] and volume["Size"] >= 64 and tags(volume)["trajvit:run"] == run
    assert machine["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"]
    (group,) = client.describe_security_groups(GroupIds=[group["GroupId"] for group in machine["SecurityGroups"]])[
        "SecurityGroups"
    ]
    assert group["IpPermissions"] == [] and group["VpcId"] == client.describe_vpcs()["Vpcs"][0]["VpcId"]
    behaviour = client.describe_instance_attribute(
        InstanceId=machine["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
    )
    assert behaviour["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    assert Bucket(f"{bucket}/{run}").names() == {"source.tar.gz", "parameters.yaml"}
    assert yaml.safe_load(Bucket(f"{bucket}/{run}").read("parameters.yaml"))["samples"] == 64
    for told in ("c7i.large (x86_64, 2 CPUs, 4 GB)", "at the latest after 3 h", "IMDSv2", "at most $0.3", prices.AS_OF):
        assert told in said, told


def test_the_second_run_takes_the_same_closed_group(launch):
    assert launch()[0] == 0 and launch(set="seed=1")[0] == 0
    groups = amazon("ec2").describe_security_groups(Filters=[{"Name": "tag:trajvit:group", "Values": ["no-inbound"]}])
    assert len(groups["SecurityGroups"]) == 1 and len(machines()) == 2


def test_user_data_holds_the_watchdog_first_and_no_credential(launch):
    assert launch(max_hours="2.5")[0] == 0
    text = script(machines()[0])
    assert len(text.encode()) < LIMIT and text.startswith("#!/bin/bash\n") and "export MINUTES=150\n" in text
    commands = [line for line in text.splitlines() if line and not line.startswith(("#", "export"))]
    begun = commands.index('"$shutdown" -h "+$MINUTES"')
    assert commands[begun - 1] == "trap '\"$shutdown\" -h now' EXIT"
    assert all("=" in line or line.startswith("set ") for line in commands[: begun - 1])
    for secret in ("secret", "AWS_SECRET", "AWS_ACCESS_KEY", "key_id", "token", "password", "git@", "://github"):
        assert secret.lower() not in text.lower().replace("ttl-seconds", ""), secret
    syntax = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert syntax.returncode == 0, syntax.stderr


def test_what_a_user_names_is_never_run_by_the_machines_shell(launch, tmp_path):
    hostile = "$(touch /tmp/hostile)`reboot`;'\""
    assert launch(set=f"data_dir={json.dumps(hostile)}")[0] == 0
    place = tags(machines()[0])["trajvit:place"]
    assert "hostile" not in script(machines()[0]) and "hostile" not in place
    assert yaml.safe_load(Bucket(place).read("parameters.yaml"))["data_dir"] == hostile
    head = user_data("s3://bucket/r", hostile, 1.0).partition("# What")[0] + 'printf %s "$AWS_DEFAULT_REGION"'
    assert subprocess.run(["bash"], input=head, text=True, capture_output=True).stdout == hostile


def test_spot_is_asked_for_once_and_its_price_of_now_is_told(cloud, launch, monkeypatch):
    monkeypatch.setattr(renting, "spot_price", lambda instance: 0.04)
    code, said = launch("--spot", "--yes")
    assert code == 0 and machines()[0]["InstanceLifecycle"] == "spot", said
    assert "the spot price in us-east-1 now" in said
    kind = renting.Kind("c7i.large", "x86_64", 2, 4.0, 0, "")
    asked = renting.request(kind, renting.Image("ami-1", "", "/dev/xvda", 64), "trajvit", "", {}, True)
    assert asked["InstanceMarketOptions"]["SpotOptions"]["SpotInstanceType"] == "one-time"


def test_the_spot_price_is_that_of_the_dearest_zone(cloud, monkeypatch):
    assert renting.spot_price("c7i.large") is None or renting.spot_price("c7i.large") > 0  # of whatever history moto makes up
    found = {"SpotPriceHistory": [{"SpotPrice": "0.031"}, {"SpotPrice": "0.047"}, {"SpotPrice": "0.040"}]}
    monkeypatch.setattr(renting, "call", lambda *_, **__: found)
    assert renting.spot_price("c7i.large") == 0.047


def test_a_machine_with_gpus_gets_the_image_that_has_their_driver(launch):
    code, said = launch(instance="g4dn.xlarge", gpus="1")
    assert code == 0 and "1 NVIDIA T4" in said and machines()[0]["InstanceType"] == "g4dn.xlarge"
    deep = amazon("ssm").get_parameter(Name=renting.GPU_IMAGE.format("x86_64"))["Parameter"]["Value"]
    assert machines()[0]["ImageId"] == deep


def test_an_arm_machine_gets_an_arm_image(launch):
    code, said = launch(instance="c7g.large")
    assert code == 0 and "arm64" in said
    assert amazon("ec2").describe_images(ImageIds=[machines()[0]["ImageId"]])["Images"][0]["Architecture"] == "arm64"


def test_a_dry_run_says_the_plan_and_changes_nothing(cloud, launch, bucket):
    code, said = launch("--dry-run", max_hours="4")
    assert code == 0 and "nothing was launched or changed" in said and "after 4 h" in said
    assert not machines() and not Bucket(bucket).sizes() and not cloud.changes


def test_without_a_yes_nothing_is_launched(cloud, launch, monkeypatch):
    code, said = launch("--spot")
    assert code == 2 and "add --yes" in said and not machines() and not cloud.changes
    monkeypatch.setattr("trajvit.running.cli_ec2._agreed", lambda: False)
    code, said = launch("--spot")
    assert code == 0 and "nothing was launched" in said and not machines() and not cloud.changes


def test_the_price_of_an_unknown_type_is_not_guessed():
    assert "is not known here" in prices.estimate("p5.48xlarge", None, 64, 1.0, REGION)
    assert "eu-west-1's own price is not known" in prices.estimate("c7i.large", None, 64, 1.0, "eu-west-1")
    assert prices.estimate("c7i.large", None, 64, 10.0, REGION).endswith("so at most $1.01")


# What is refused, before anything is paid for


def refused(cloud: Cloud, told: tuple[int, str], says: str) -> None:
    code, said = told
    assert code == 2 and says in said, said
    assert said.count("\n") == 1 and not machines() and "RunInstances" not in cloud.changes, said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"bucket": "s3://no-such-bucket-anywhere/x"}, "there is no such bucket"),
        ({"bucket": "my-bucket"}, "write s3://bucket/prefix"),
        ({"bucket": "s3://bucket/$(reboot)"}, "is not a place for runs"),
        ({"bucket": "s3://bucket/../other"}, "is not a place for runs"),
        ({"instance": "c7i.enormous"}, "there is no such type in us-east-1"),
        ({"instance": "big; reboot"}, "instance = 'big; reboot'"),
        ({"gpus": "1"}, "c7i.large has 0 NVIDIA GPUs, asked 1"),
        ({"set": "sampels=3"}, "'sampels' is not a parameter"),
        ({"set": "samples=2"}, "samples = 2"),
        ({"set": "checkpoint=reports/runs/mine/magvit"}, "is not in the source, which is all that is sent"),
        ({"params": "nowhere.yaml"}, "nowhere.yaml cannot be read"),
        ({"params": None}, "give --params"),
        ({"role": "nobody"}, "there is no instance profile 'nobody'"),
        ({"max_hours": "0"}, "max_hours = 0"),
        ({"params": None, "resume": "never-was"}, "has no parameters.yaml and no source.tar.gz"),
        ({"resume": "r"}, "goes on with its own parameters"),
        ({"params": None, "resume": "../secrets"}, "resume = '../secrets'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_wrong_orders_are_refused_in_one_line(cloud, launch, options, says):
    refused(cloud, launch(**options), says)
    assert not cloud.changes


def test_a_parameters_file_whose_name_no_run_can_bear_is_refused(cloud, launch, tmp_path):
    (tmp_path / "$(touch x).yaml").write_text("{}")
    refused(cloud, launch(params=str(tmp_path / "$(touch x).yaml")), "cannot be one")


@pytest.mark.parametrize(
    ("action", "code", "says"),
    [
        ("RunInstances", "InsufficientInstanceCapacity", "Amazon has none of these machines free"),
        ("RunInstances", "MaxSpotInstanceCountExceeded", "quota of spot machines is used up"),
        ("CreateSecurityGroup", "UnauthorizedOperation", "ec2:CreateSecurityGroup is refused with UnauthorizedOperation"),
        ("DescribeInstanceTypes", "UnauthorizedOperation", "ec2:DescribeInstanceTypes is refused"),
        ("DescribeVpcs", "AuthFailure", "the credentials are not accepted"),
        ("GetInstanceProfile", "AccessDenied", "iam:GetInstanceProfile is refused with AccessDenied: these credentials"),
    ],
)
def test_what_amazon_refuses_is_told_in_one_line(cloud, launch, action, code, says):
    for group in amazon("ec2").describe_security_groups(Filters=[{"Name": "tag-key", "Values": ["trajvit:group"]}])[
        "SecurityGroups"
    ]:
        amazon("ec2").delete_security_group(GroupId=group["GroupId"])
    cloud.refused[action] = code
    told = launch("--spot", "--yes")
    said = told[1].splitlines()[-1] + "\n"
    refused(cloud, (told[0], said), says)


def test_a_rehearsal_that_amazon_refuses_stops_before_anything_is_uploaded(cloud, launch, bucket, monkeypatch):
    real = aws.call

    def call(service, operation, **arguments):
        if arguments.get("DryRun"):
            raise aws.Refusal("ec2:RunInstances is refused with UnauthorizedOperation: no", "UnauthorizedOperation")
        return real(service, operation, **arguments)

    monkeypatch.setattr(renting, "call", call)
    refused(cloud, launch(), "UnauthorizedOperation")
    assert not Bucket(bucket).sizes()


def test_missing_credentials_and_region_are_told_before_anything(cloud, launch, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    refused(cloud, launch(), "no AWS region is chosen")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(aws, "_kept_client", aws._kept_client.__wrapped__)
    refused(cloud, launch(), "no AWS credentials")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    code, said = launch()
    assert code == 2 and "nobody" in said and said.count("\n") == 1


def test_a_bucket_that_denies_access_or_is_elsewhere_is_told(cloud, launch):
    with cloud.making(refuses="AccessDenied"):
        told = launch()
    refused(cloud, told, "access denied")
    amazon("s3").create_bucket(Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    refused(cloud, launch(bucket="s3://far-away/x"), "set AWS_DEFAULT_REGION=eu-west-1")


def test_a_run_that_another_machine_is_at_or_that_is_there_already_is_refused(cloud, launch, bucket, tell):
    assert launch()[0] == 0
    run = tags(machines()[0])["trajvit:run"]
    code, said = launch()
    assert code == 2 and "is in use by i-" in said and len(machines()) == 1
    assert tell("stop", run)[0] == 0
    Bucket(f"{bucket}/{run}").write("PROGRESS.json", report("interrupted"))
    code, said = launch()
    assert code == 2 and "holds this run already" in said and f"--resume {run}" in said and not machines()


def test_uncommitted_changes_are_refused_unless_they_do_not_run(cloud, launch, tmp_path, monkeypatch):
    changed = clone(tmp_path / "changed")
    monkeypatch.setattr(ec2, "ROOT", changed)
    (changed / "README.md").write_text("notes")
    (changed / "notebooks" / "params" / "mine.yaml").write_text("{}")
    assert launch("--dry-run")[0] == 0
    (changed / "lib" / "trajvit" / "settings.py").write_text("")
    (changed / "lib" / "trajvit" / "new.py").write_text("")
    refused(cloud, launch(), "lib/trajvit/settings.py, lib/trajvit/new.py differ from the last commit")
    monkeypatch.setattr(ec2, "ROOT", tmp_path / "nowhere")
    refused(cloud, launch(), "launch from a git clone")


def test_imported_data_which_the_machine_would_not_have_is_refused(cloud, launch, tmp_path, monkeypatch):
    root = trajvit.generate(out=tmp_path / "data" / "val", samples=5).root
    attributes = json.loads((Path(root) / "zarr.json").read_text())
    stored = attributes["attributes"]["config"]
    world = {name: stored[name] for name in ImportedConfig.model_fields if name in stored}
    world["world"] = {name: stored["world"][name] for name in ("frames", "height", "width", "channels")}
    config = ImportedConfig(**world | {"kind": "imported", "sha256": "0" * 64, "share": "val", "texts": {}})
    attributes["attributes"] |= {"config": config.model_dump(mode="json"), "config_hash": config.hash}
    (Path(root) / "zarr.json").write_text(json.dumps(attributes))
    refused(cloud, launch(set=f"data_dir={tmp_path / 'data'}"), "was imported")


def test_a_security_group_that_was_opened_is_not_used(cloud, launch):
    assert launch()[0] == 0
    client, group = amazon("ec2"), machines()[0]["SecurityGroups"][0]["GroupId"]
    client.terminate_instances(InstanceIds=[machines()[0]["InstanceId"]])
    client.authorize_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
    code, said = launch(set="seed=5")
    client.revoke_security_group_ingress(GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0")
    assert code == 2 and "remove its inbound rules" in said and not machines()


# Status, stop, logs, resume, policy


def report(state: str) -> bytes:
    progress = {"work": "tiny", "state": state, "done": 1, "total": 4, "unit": "notebooks", "rate": 0.1, "eta_s": 30.0}
    return json.dumps(progress | {"note": "02", "heartbeat": time.time(), "host": "ip-10-0-0-1", "pid": 7}).encode()


def test_status_tells_of_machines_and_of_runs_without_one(launch, bucket, tell):
    assert launch()[0] == 0
    (machine,) = machines()
    run = tags(machine)["trajvit:run"]
    assert "nothing told yet" in tell("status")[1]
    Bucket(f"{bucket}/{run}").write("PROGRESS.json", report("running"))
    code, said = tell("status")
    assert code == 0 and f"{run}: {machine['InstanceId']} c7i.large on demand, running, up 0.0 h" in said
    assert "tiny: running, 1/4 notebooks (25 %)" in said
    assert main(["ec2", "stop", f"{bucket}/{run}"]) == 0
    amazon("ec2").delete_tags(Resources=[machine["InstanceId"]], Tags=[{"Key": "trajvit:place"}])
    Bucket(f"{bucket}/{run}").write("PROGRESS.json", report("interrupted"))
    code, said = tell("status", "--bucket", bucket)
    assert code == 0 and f"{run}: no machine" in said and "tiny: interrupted" in said


def test_stop_ends_the_machine_of_a_run_and_only_that(launch, bucket, tell):
    assert launch()[0] == 0 and launch(set="seed=1")[0] == 0
    first, second = sorted(machines(), key=lambda machine: tags(machine)["trajvit:run"])
    code, said = tell("stop", tags(first)["trajvit:run"])
    assert code == 0 and first["InstanceId"] in said and "results up to the last minute" in said
    assert [machine["InstanceId"] for machine in machines()] == [second["InstanceId"]]
    code, said = tell("stop", tags(first)["trajvit:run"])
    assert code == 2 and "no machine of" in said and said.count("\n") == 1


def test_a_name_that_two_places_share_is_not_stopped_by_guess(launch, bucket, tell):
    assert launch()[0] == 0 and launch(bucket=f"{bucket}/other")[0] == 0
    run = tags(machines()[0])["trajvit:run"]
    code, said = tell("stop", run)
    assert code == 2 and f"{bucket}/other/{run}" in said and len(machines()) == 2
    assert tell("stop", f"{bucket}/other/{run}")[0] == 0 and len(machines()) == 1


def test_logs_come_from_s3_and_before_that_from_the_console(launch, bucket, tell):
    assert launch()[0] == 0
    place = tags(machines()[0])["trajvit:place"]
    code, said = tell("logs", place)
    assert code == 0 and "no log yet; the console of i-" in said
    Bucket(place).write("machine.log", b"step 1\nstep 2\n")
    assert tell("logs", place) == (0, "step 1\nstep 2\n")
    code, said = tell("logs", f"{bucket}/never-was")
    assert code == 2 and "has no machine.log" in said and said.count("\n") == 1


def test_resume_launches_the_same_run_with_what_it_began_with(cloud, launch, bucket, tell):
    assert launch(set="seed=3")[0] == 0
    run = tags(machines()[0])["trajvit:run"]
    first = script(machines()[0])
    Bucket(f"{bucket}/{run}").write("PROGRESS.json", report("interrupted"))
    assert tell("stop", run)[0] == 0
    cloud.changes.clear()
    code, said = launch("--spot", "--yes", params=None, resume=run)
    assert code == 0 and "continued" in said
    assert script(machines()[0]) == first and tags(machines()[0])["trajvit:run"] == run
    assert "Put" not in cloud.changes  # nothing is uploaded anew


def test_policy_allows_the_runs_and_nothing_besides(tell):
    code, said = tell("policy", "--bucket", "s3://lab/runs")
    listing, inside = json.loads(said)["Statement"]
    assert code == 0 and inside["Resource"] == "arn:aws:s3:::lab/runs/*" and "s3:*" not in said and "Delete" in said
    assert listing["Resource"] == "arn:aws:s3:::lab" and listing["Condition"] == {"StringLike": {"s3:prefix": "runs/*"}}
    assert all(statement["Action"] != "*" and statement["Resource"] != "*" for statement in (listing, inside))


def test_no_command_of_ec2_imports_torch(cloud, bucket, tmp_path):
    code = (
        "import sys; from trajvit.running.cli import main; from trajvit.running import ec2; "
        f"ec2._in_a_child({str(ROOT / 'notebooks/params/smoke.yaml')!r}, []); "
        f"assert main(['ec2', 'status', '--bucket', {bucket!r}]) == 0; assert 'torch' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    ended = subprocess.run(
        [sys.executable, "-c", "import sys, trajvit.running.cli; assert not {'boto3', 'torch'} & set(sys.modules)"]
    )
    assert ended.returncode == 0
