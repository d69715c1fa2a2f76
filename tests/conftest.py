"""What more than one folder of tests needs."""

import fcntl
import subprocess
import sys

import pytest
import torch
from metadata_server import serve
from trajvit.magvit.model import MAGVIT
from trajvit.magvit.tasks import TASKS
from trajvit.magvit.tokenizer import Tokenizer, TokenizerConfig
from trajvit.magvit.transformer import MaskedTransformer, TransformerConfig
from trajvit.running.places import NOTEBOOKS
from trajvit.worlds.families import NAMES


@pytest.fixture(scope="module")
def little_magvit():
    """An untrained model of compact clips, as small as they come."""
    torch.manual_seed(0)
    tokenizer = TokenizerConfig(base_channels=16)
    shape = TransformerConfig(
        grid=tokenizer.grid, levels=tokenizer.quantizer.digits, classes=4, tasks=len(TASKS), layers=1, width=32, heads=2
    )
    return MAGVIT(Tokenizer(tokenizer), MaskedTransformer(shape), NAMES)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory, worker_id):
    """The shipped smoke run, end to end, as a user starts it; made once, whichever process of the tests asks first."""
    base = tmp_path_factory.getbasetemp()
    out = (base if worker_id == "master" else base.parent) / "smoke-run" / "smoke"
    out.parent.mkdir(exist_ok=True)
    with open(out.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made := out.parent / "made").exists():
            command = [sys.executable, "-m", "trajvit", "run", str(NOTEBOOKS / "params" / "smoke.yaml"), "--out", str(out)]
            ended = subprocess.run(command, capture_output=True, text=True)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            made.touch()
    return out


@pytest.fixture
def metadata(monkeypatch):
    """The instance metadata of a machine that is being taken back; its answers are the class's."""
    address, told = serve()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    yield told
    told.vanish()
