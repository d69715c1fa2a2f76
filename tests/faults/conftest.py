import pytest
from harness import quick_folder


@pytest.fixture
def quick_path():
    """A temporary folder in memory, where there is such a disk."""
    with quick_folder() as path:
        yield path
