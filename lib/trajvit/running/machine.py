"""What a rented machine does: brings back what the run has in its bucket, goes on with it, and sends it there every minute.

`python -m trajvit.running.machine s3://bucket/prefix/run PARAMETERS.yaml`. Its imports are few: it runs before the rest is
installed, so that the installation too can be followed from afar.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from trajvit.datasets.bucket import Bucket, LostLock, open_bucket
from trajvit.datasets.progress import Telling
from trajvit.running.mirror import Mirror
from trajvit.running.places import ROOT, RUNS
from trajvit.settings import InputError
from trajvit.training.spot import spot_notice

SEND_S, BEAT_S = 60.0, 5.0
LEAVE_S = 240.0  # before the machine ends: time to stop the run and send what it has
STOPPING_S = 40.0  # of the two minutes that a spot machine is given
ENDINGS = {2: "the run refused its parameters", 3: "NO-GO: a gate stopped the run", 75: "the run was interrupted"}


class Failed(Exception):
    """The run did not get through."""


class Leaving(KeyboardInterrupt):
    """The machine goes away; the run can be continued on another."""


@click.command()
@click.argument("place")
@click.argument("parameters", type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path))
@click.option("--log", type=click.Path(resolve_path=True, path_type=Path), help="a file to send along")
@click.option("--seconds", type=float, default=float("inf"), help="until the machine ends")
@click.option("--install", is_flag=True, help="install requirements.txt first")
def main(place: str, parameters: Path, log: Path | None, seconds: float, install: bool) -> int:
    """Run PARAMETERS on this machine, which may vanish, and keep the run in PLACE, an s3://bucket/prefix.

    Exit codes: 0 done, 1 failed, 2 refused, since another machine is at it, 75 to be continued.
    """
    until = time.monotonic() + seconds - min(LEAVE_S, seconds / 10)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    out = RUNS / place.rstrip("/").rpartition("/")[2]
    commands = [[sys.executable, "-m", "trajvit", "run", str(parameters), "--out", str(out)]]
    if install:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]
        commands.insert(0, pip)
    try:
        work(open_bucket(place), out, log, commands, lambda: _why_leave(until, stopped))
        return 0
    except (InputError, Leaving, Failed, OSError) as error:
        print(f"trajvit: {error}", flush=True)
        return 2 if isinstance(error, InputError) else 75 if isinstance(error, Leaving) else 1


def work(bucket: Bucket, out: Path, log: Path | None, commands: list[list[str]], why_leave: Callable[[], str]) -> None:
    """Run the commands one after the other, which fill `out`, telling and sending; until `why_leave` gives a reason.

    Raises `Failed` and `Leaving`, when everything has been sent and told, and `InputError` where another machine is at it.
    """
    mirror = Mirror(bucket, out)

    def send(urgent: bool = False) -> None:
        """What has changed; a bucket that cannot be reached now is tried again in a minute, unless that is too late."""
        try:
            check_lock()
            mirror.send()
            if log is not None:
                bucket.send("machine.log", log)
        except OSError as error:
            if urgent or isinstance(error, LostLock):  # whatever is made here from now on would be in vain
                raise
            print(f"trajvit: {error}; tried again in {SEND_S:.0f} s", flush=True)

    with bucket.lock("machine") as check_lock:
        print(f"{bucket}: {mirror.bring()} files brought back", flush=True)
        done, total, _ = stand(out)
        with Telling(bucket.place.rpartition("/")[2], total, "notebooks", bucket, done=done, period_s=BEAT_S) as telling:
            try:
                for command in commands:
                    _follow(command, out, why_leave, send, telling)
            finally:
                telling.advance(stand(out)[0], "sending the last")
                send(urgent=True)
            telling.advance(total)


def _follow(command: list[str], out: Path, why_leave: Callable[[], str], send: Callable[[], None], telling: Telling) -> None:
    """Run a command to its end, or to ours."""
    print("$ " + " ".join(command), flush=True)
    process, sent = subprocess.Popen(command, cwd=ROOT), -SEND_S
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                process.wait(BEAT_S)
                break
            if why := why_leave():
                raise Leaving(why)
            done, _, note = stand(out)
            telling.advance(done, note or " ".join(command[2:4]))
            if time.monotonic() - sent >= SEND_S:
                send()
                sent = time.monotonic()
    finally:
        _stop(process)
    if process.returncode == 75:
        raise Leaving(why_leave() or ENDINGS[75])  # the run itself may have heard the notice first
    if process.returncode:
        reason = ENDINGS.get(process.returncode, f"{' '.join(command[2:4])} ended with {process.returncode}")
        raise Failed("; ".join(filter(None, (reason, _error(out)))))


def _stop(process: subprocess.Popen) -> None:
    """As Ctrl-C would, and for sure, where it has not ended."""
    process.terminate()
    try:
        process.wait(STOPPING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _manifest(out: Path) -> dict:
    try:
        return json.loads((out / "manifest.json").read_text())
    except OSError:
        return {}


def stand(out: Path) -> tuple[int, int, str]:
    """How many notebooks are done, of how many, and what the one that runs is at."""
    notebooks = _manifest(out).get("notebooks", [])
    running = [notebook["name"] for notebook in notebooks if notebook["state"] == "running"]
    reports = sorted(out.rglob("PROGRESS.txt"), key=lambda path: path.stat().st_mtime)
    newest = [reports[-1].read_text().strip()] if running and reports else []
    return sum(notebook["state"] == "done" for notebook in notebooks), len(notebooks) or 4, ": ".join([*running, *newest])


def _error(out: Path) -> str:
    return "; ".join(
        f"{notebook['name']}: {notebook['error']}" for notebook in _manifest(out).get("notebooks", []) if notebook["error"]
    )


def _why_leave(until: float, stopped: list[int]) -> str:
    if stopped:
        return "the machine was told to stop"
    if time.monotonic() > until:
        return "its hours are over"
    return spot_notice()


if __name__ == "__main__":
    sys.exit(main(standalone_mode=False))
