"""Who does the work: this process, fresh processes of this machine, or a Dask cluster. What is made never depends on it.

No process is ever forked: one that has run torch has threads which a fork loses and then waits for, for ever.
"""

import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any, Literal

from pydantic import Field, model_validator

from trajvit.datasets.progress import Listener, Telling, silent
from trajvit.settings import InputError, Settings

ANSWER_WITHIN_S = 8  # a Dask scheduler, and the first of its workers
ENDED_WITH_PARENT_S = 0.1
SHARING = "TRAJVIT_SHARING"  # in a process's environment: how many work on this machine `at_once`
WORTH_PROCESSES = 1000  # clips: work on fewer is done before fresh processes have loaded torch


def cores() -> int:
    """How many cores this process may use: as many as its affinity and its container allow."""
    import joblib

    return joblib.cpu_count()


class Labour(Settings):
    """Who makes the shards; it never changes what is made."""

    workers: int | None = Field(None, ge=1, le=1024)
    backend: Literal["loky", "dask"] = "loky"
    scheduler: str | None = Field(None, description="address of a Dask scheduler, such as tcp://10.0.0.1:8786")
    part: tuple[int, int] = Field((0, 1), description="rank and number of machines")

    @model_validator(mode="after")
    def _possible(self):
        rank, machines = self.part
        if not 0 <= rank < machines:
            raise ValueError(f"part {rank} of {machines} does not exist; ranks go from 0 to machines - 1")
        if (self.backend == "dask") != (self.scheduler is not None):
            raise ValueError("backend dask and a scheduler's address go together: give both or neither")
        if self.backend == "dask" and find_spec("distributed") is None:
            raise ValueError("backend dask needs the package distributed: pip install -e '.[dask]'")
        return self


Each = Callable[[Callable[[Any], Any], Iterable], Iterator]


@contextmanager
def crew(labour: Labour, workers: int) -> Iterator[Each]:
    """Gives a function that does some work for each of some parts, in any order, and yields the results as they come.

    Raises `InputError` for a cluster that cannot be reached. The function raises what the work raises, and `OSError`
    where a worker is lost.
    """
    if labour.backend == "dask":
        with _cluster(labour.scheduler):
            yield _on_cluster
    else:
        yield partial(_in_processes, workers) if workers > 1 else _here


def at_once(
    work: str, calls: Mapping[str, Callable[[Listener], Any]], clips: int, on_progress: Listener = silent
) -> dict[str, Any]:
    """The results, by name, of calls that need nothing of one another, each with a listener of its own: where they are about
    many `clips`, and there are several cores, in as many fresh processes of one thread each, else in turn, here.

    From other processes `on_progress` hears of `work` how many calls are done. Raises what a call raises.
    """
    workers = min(cores(), len(calls))
    if clips < WORTH_PROCESSES or workers == 1:
        return {name: call(on_progress) for name, call in calls.items()}
    found = {}
    with (
        warnings.catch_warnings(),
        crew(Labour(), workers) as each,
        Telling(work, len(calls), "parts", listener=on_progress) as telling,
        closing(each(partial(_named_result, workers), calls.items())) as results,
    ):
        # A process whose memory has grown is ended after its call, and another one takes the next.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor")
        for name, result in results:
            found[name] = result
            telling.advance(len(found), f"{name} is done")
    return {name: found[name] for name in calls}


def _named_result(workers: int, named: tuple[str, Callable[[Listener], Any]]) -> tuple[str, Any]:
    name, call = named
    os.environ[SHARING] = str(workers)
    return name, call(silent)


def _here(work: Callable, parts: Iterable) -> Iterator:
    for part in parts:
        yield work(part)


def _in_processes(workers: int, work: Callable, parts: Iterable) -> Iterator:
    import joblib  # here, since most datasets are small, and starting takes as long as making one
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    loky = {"n_jobs": workers, "inner_max_num_threads": 1, "initializer": _serve, "initargs": (os.getpid(),)}
    try:
        with _signals_kept_from_children(), joblib.parallel_config("loky", **loky):
            results = _parallel(work, parts)
        yield from results
    except TerminatedWorkerError:
        raise OSError("a worker process was killed from outside (out of memory?)") from None


def _on_cluster(work: Callable, parts: Iterable) -> Iterator:
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield from _parallel(work, parts)
    except KilledWorker:
        raise OSError("the workers of the Dask cluster were killed again and again (out of memory?)") from None
    except (CancelledError, CommClosedError):
        raise OSError("the Dask scheduler is gone") from None


def _parallel(work: Callable, parts: Iterable) -> Iterator:
    import joblib

    tasks = (joblib.delayed(work)(part) for part in parts)
    return joblib.Parallel(return_as="generator_unordered", batch_size=1, max_nbytes=None)(tasks)


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    import joblib
    from distributed import Client

    with _quiet("distributed.client", "distributed.core", "distributed.batched", "tornado.application"):
        try:
            client = Client(address, timeout=f"{ANSWER_WITHIN_S}s")
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {address} ({error}): check the address") from None
        with client:
            try:
                client.wait_for_workers(1, timeout=ANSWER_WITHIN_S)
            except TimeoutError:
                raise InputError(
                    f"the Dask scheduler at {address} has no workers: start some with 'dask worker {address}'"
                ) from None
            with joblib.parallel_config("dask"):
                yield


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep loggers from printing what arrives here as an exception and is said in one line."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """Processes that are started meanwhile never see Ctrl-C or SIGTERM; this one sees those that came when it is over."""
    resource_tracker.ensure_running()  # which it would be at the first worker, and lets signals through again as it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(parent: int) -> None:
    """What a worker does first: it leaves SIGINT and SIGTERM to its parent (a training in it catches them itself until its
    checkpoint is written), and ends when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(ENDED_WITH_PARENT_S)
        os._exit(1)

    threading.Thread(target=end_with_parent, name="end with parent", daemon=True).start()
