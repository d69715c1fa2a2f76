import subprocess

import pytest
from harness import mount, quick_folder


@pytest.fixture
def quick_path():
    """A temporary folder in memory, where there is such a disk."""
    with quick_folder() as path:
        yield path


@pytest.fixture
def disk(tmp_path, request):
    """A disk of its own, of the test module's `DISK_MIB` MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", f"size={request.module.DISK_MIB}m", "tmpfs", place)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a disk takes root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)
