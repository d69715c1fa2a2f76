"""`python -m trajvit`, as torchrun starts it, in float32: bfloat16 rounds a batch of four otherwise than two of two.

Each process says what share of the weights it holds, and leaves the sha256 of those that it ends with in `OUT-weights-N`. The
last process is told to end in its third step; then all give the same command again.
"""

import contextlib
import hashlib
import os
import signal
import sys

from trajvit.running import cli, stations
from trajvit.training import loop, processes
from trajvit.training.sharding import is_spread


def in_float32() -> None:
    """What the processes' curves are compared in, every step of them."""
    loop.precision_on, loop.LOG_EVERY = lambda device: contextlib.nullcontext(), 1


def _leaving_weights(train):
    def leaving(settings, data, out, *options):
        trained = train(settings, data, out, *options)
        weights = b"".join(value.numpy().tobytes() for value in trained.model.state_dict().values())
        with open(f"{out}-weights-{processes.number()}", "w") as file:
            file.write(hashlib.sha256(weights).hexdigest())
        return trained

    return leaving


def _interrupted(step, calls=iter(range(1000))):  # noqa: B008
    def interrupted(training, number):
        call = next(calls)
        if call == 0:
            weights = list(training.objective.model.parameters())
            held = sum((weight.to_local() if is_spread(weight) else weight).numel() for weight in weights)
            print(f"holds {held / sum(weight.numel() for weight in weights):.1f} of the weights", flush=True)
        if call == 2 and processes.number() == processes.count() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(training, number)

    return interrupted


if __name__ == "__main__":
    in_float32()
    stations.train_magvit = _leaving_weights(stations.train_magvit)
    loop.Training.step = _interrupted(loop.Training.step)
    assert cli.main(sys.argv[1:]) == 75
    sys.exit(cli.main(sys.argv[1:]))
