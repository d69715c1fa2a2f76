"""An Amazon of the tests' own, and launches there."""

import copy
import hashlib
from urllib.request import Request, urlopen

import nbformat
import pytest
import yaml
from cloud_server import REGION, Cloud, amazon, clone, machines
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from trajvit.running import aws, ec2, renting
from trajvit.running.cli import main


@pytest.fixture(scope="module")
def cloud():
    cloud = Cloud()
    urlopen(Request(f"{cloud.url}/moto-api/reset", method="POST")).close()  # moto lives as long as the process
    amazon.cache_clear()
    aws._kept_client.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        amazon("iam").create_instance_profile(InstanceProfileName="trajvit")
        driver = get_backend("ec2")[DEFAULT_ACCOUNT_ID][REGION]
        image = next(iter(driver.describe_images(filters={"architecture": ["x86_64"]})))
        # Amazon's own parameter of the Deep Learning image, which moto does not know and lets nobody write.
        parameters = get_backend("ssm")[DEFAULT_ACCOUNT_ID][REGION]
        known = parameters.get_parameters([renting.CPU_IMAGE.format("x86_64")])[renting.CPU_IMAGE.format("x86_64")]
        deep = copy.copy(known)
        deep.name, deep.value = renting.GPU_IMAGE.format("x86_64"), image.id
        parameters._parameters[deep.name].append(deep)
        yield cloud
    cloud.close()


@pytest.fixture
def bucket(cloud, request):
    name = "b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    amazon("s3").create_bucket(Bucket=name)
    cloud.refused, cloud.changes = {}, []
    yield f"s3://{name}/lab/runs"
    if running := [machine["InstanceId"] for machine in machines()]:
        amazon("ec2").terminate_instances(InstanceIds=running)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return clone(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def launch(repository, bucket, monkeypatch, tmp_path, capsys):
    """Launch from a clean clone; what it returns and prints."""
    monkeypatch.setattr(ec2, "ROOT", repository)
    monkeypatch.setattr(ec2, "_in_a_child", ec2._parameters)  # torch is imported once for all tests
    (tmp_path / "tiny.yaml").write_text("samples: 64\n")
    defaults = {"--params": str(tmp_path / "tiny.yaml"), "--bucket": bucket, "--instance": "c7i.large"}

    def launched(*flags: str, **options: str | None) -> tuple[int, str]:
        asked = defaults | {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        arguments = [word for name, value in asked.items() if value is not None for word in (name, value)]
        capsys.readouterr()
        code = main(["ec2", "launch", *arguments, *(flags or ("--yes",))])
        told = capsys.readouterr()
        return code, told.out + told.err

    return launched


@pytest.fixture
def yaml_file(tmp_path):
    def write(**values):
        path = tmp_path / "p.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """Puts notebooks of one cell each, by name, in the place of the four; they take the parameters seed, data_dir, run_dir."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.setattr("trajvit.running.planning.NOTEBOOKS", folder)
    monkeypatch.setattr("trajvit.running.planning.RUNS", tmp_path / "runs")
    monkeypatch.setattr("trajvit.running.runner.RUNS", tmp_path / "runs")

    def write(**cells: str) -> None:
        for name, source in cells.items():
            taken = 'seed = 0\ndata_dir = "data/smoke"\nrun_dir = "runs"'
            parameters = nbformat.v4.new_code_cell(taken, metadata={"tags": ["parameters"]}, id="parameters")
            cells_ = [nbformat.v4.new_markdown_cell(f"# {name}?", id="title"), parameters]
            document = nbformat.v4.new_notebook(cells=[*cells_, nbformat.v4.new_code_cell(source, id="work")])
            document.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(document, folder / f"{name}.ipynb")

    return write
