import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings libgomp on Linux alone")
@pytest.mark.parametrize("own", [None, "77"])
def test_threads_that_wait_soon_sleep_and_leave_their_core_to_others(own):
    """Of two trainings on the same cores each would else make a twentieth of the steps; who sets it otherwise is heard."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {"OMP_DISPLAY_ENV": "verbose"} | ({"GOMP_SPINCOUNT": own} if own else {})
    command = [sys.executable, "-c", "import trajvit; trajvit.MAGVIT"]  # loads torch, that libgomp, and that tells its settings
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    assert f"GOMP_SPINCOUNT = '{own or 3000}'" in said
