import os
import subprocess
import sys
import time
from pathlib import Path

from kill import kill_again_and_again, summary

KILLS = int(os.environ.get("TRAJVIT_KILLS", "6"))


def test_resume_after_kill_gives_the_same_bytes(quick_path):
    found = kill_again_and_again(KILLS, quick_path, seed=int(time.time()), say=print)
    print(summary(found))
    for killed in found:
        assert killed.same and not killed.cut and not killed.litter and not killed.orphans, killed


def test_death_at_any_step_on_the_disk_is_made_good_by_the_next_run():
    script = Path(__file__).with_name("every_step.py")
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split()[0]) > 60
