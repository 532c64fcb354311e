"""One run on several processes: how they find each other, and what only the first one does.

Start the same command on every host. The processes find each other by the environment, or with --distributed:

    TPU pod                        all hosts know each other
    SLURM, Open MPI, Kubernetes    their own variables (srun, mpirun)
    anything else                  JAX_COORDINATOR_ADDRESS=host:port JAX_NUM_PROCESSES=n JAX_PROCESS_ID=k

Every process does the same computations. Only the first one writes files and prints.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxscore.launch import console, workdir
from jaxscore.launch.flags import require

PEER_LOST = 75
"""Exit status if another process has died: EX_TEMPFAIL, run the same command again."""

START_SECONDS = 300
"""Seconds that the processes wait for each other at the start."""


@contextlib.contextmanager
def joined(asked: bool, heartbeat: int) -> Iterator[None]:
    """Joins the other processes of the run, if there are any; inside, jax.devices() are the devices of all.

    An error inside ends this process at once. It does not wait for the other processes, because they wait for
    it.

    Args:
        asked: whether --distributed was given.
        heartbeat: seconds after which a silent process counts as dead.

    Raises:
        FlagError: if the processes cannot join.
    """
    arguments = _environment()
    if arguments is None and not asked:
        yield
        return
    _supervise()
    try:
        jax.distributed.initialize(
            **arguments or {},
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        remedy = "set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        require(False, "distributed", "", f"cannot join the other processes ({reason}); {remedy}")
    if jax.process_index() > 0:
        console.mute()
    try:
        yield
    except BaseException as error:
        if isinstance(error, SystemExit) and error.code in (0, None):
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        if _of_another_process(error):
            # JAX is about to end this process; `_supervise` reports why, in one line.
            time.sleep(heartbeat + 5)
        _leave(error.code if isinstance(error, SystemExit) else 1)


def on_first(function: Callable[[], Any]) -> Any:
    """Value of function(), which only the first process calls; the others wait for it and get the same value.

    The value must be representable in JSON. If function() raises, the first process raises its error, and the
    others raise Refusal with the same message.
    """
    if jax.process_count() == 1:
        return function()
    from jax.experimental.multihost_utils import broadcast_one_to_all

    outcome, failure = {}, None
    if jax.process_index() == 0:
        try:
            outcome = {"value": function()}
        except Exception as error:
            outcome, failure = {"refused": str(error)}, error
    text = np.frombuffer(json.dumps(outcome).encode(), np.uint8)
    length = int(broadcast_one_to_all(np.int32(len(text))))
    text = np.resize(text, length)  # in other processes only the length matters
    outcome = json.loads(bytes(broadcast_one_to_all(text)))
    if failure is not None:
        raise failure
    if "refused" in outcome:
        raise workdir.Refusal(outcome["refused"])
    return outcome["value"]


def everywhere(tree: Any) -> Any:
    """Whole arrays in NumPy, in every process; rows that other processes hold are fetched."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental.multihost_utils import process_allgather

    return process_allgather(tree, tiled=True)


def _environment() -> dict[str, Any] | None:
    """Arguments of jax.distributed; {} if it finds the processes itself, None for a run of one process."""
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    address, count, number = map(os.environ.get, names)
    if address and count and number:
        for name, value in (("JAX_NUM_PROCESSES", count), ("JAX_PROCESS_ID", number)):
            require(value.isdecimal(), "distributed", "", f"{name}={value} must be a whole number")
        one = f"JAX_PROCESS_ID={number} must be below JAX_NUM_PROCESSES={count}"
        require(int(number) < int(count), "distributed", "", one)
        return {"coordinator_address": address, "num_processes": int(count), "process_id": int(number)}
    slurm = "SLURM_STEP_NODELIST" in os.environ and int(os.environ.get("SLURM_NTASKS", 1)) > 1
    mpi = int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1)) > 1
    tpu = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    return {} if slurm or mpi or tpu else None


def _supervise() -> None:
    """Forks: the child goes on, and this process waits for it and reports its end by a signal.

    If another process dies, JAX ends this one with SIGABRT, from a thread of its own, which Python cannot
    catch. Only a parent process can tell the user what that means.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _die_with(parent)
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: _send(child, number))
    while True:
        try:
            _, status = os.waitpid(child, 0)
            break
        except InterruptedError:
            continue
    status = os.waitstatus_to_exitcode(status)
    if status < 0:
        name = signal.Signals(-status).name
        lost = (
            "another process of the run has died, or cannot be reached" if status == -signal.SIGABRT else name
        )
        console.complain(
            f"this process has ended ({name}): {lost}; run the same command again on all hosts, "
            "and it goes on from the newest checkpoint"
        )
        status = PEER_LOST
    os._exit(status)


def _of_another_process(error: BaseException | None) -> bool:
    """Whether the error comes from JAX's runtime, as when a collective fails because another process died."""
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _send(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent dies (on Linux)."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG in <sys/prctl.h>
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(PEER_LOST)


def _leave(status: Any) -> None:
    """Ends this process now; the first process waits a little, because its end ends the others at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_index() == 0:
        time.sleep(2.0)
    os._exit(status if isinstance(status, int) else 1)
