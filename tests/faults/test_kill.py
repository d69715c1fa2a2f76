import os
import time

from kill import kill_again_and_again, summary

KILLS = int(os.environ.get("TRAJVIT_KILLS", "6"))


def test_resume_after_kill_gives_the_same_bytes(quick_path):
    found = kill_again_and_again(KILLS, quick_path, seed=int(time.time()), say=print)
    print(summary(found))
    for killed in found:
        assert killed.same and not killed.cut and not killed.litter and not killed.orphans, killed
