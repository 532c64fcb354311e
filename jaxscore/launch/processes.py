"""Several processes in one run: every host runs the same command, and one process writes the files.

The processes find each other from the environment, or are asked for by --distributed:

    TPU pod                        all hosts know each other
    SLURM, Open MPI, Kubernetes    their own variables (srun, mpirun)
    anything else                  JAX_COORDINATOR_ADDRESS=host:port JAX_NUM_PROCESSES=n JAX_PROCESS_ID=k

Every process runs the same program. Only the first process writes files and prints.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxscore.launch import console, workdir
from jaxscore.launch.flags import require

PEER_LOST = 75
"""Exit status if another process has died. It is EX_TEMPFAIL: run the same command again."""

START_SECONDS = 300
"""Seconds that the processes wait for each other at the start."""

QUIET_SECONDS = 5
"""Seconds after which a process says that it waits for the others."""


@contextlib.contextmanager
def joined(asked: bool, heartbeat: int) -> Iterator[None]:
    """Joins the processes of the run, if there are several; within, jax.devices() lists the devices of all.

    An exception within ends this process at once. Otherwise the processes would wait for each other.
    Raises FlagError if this process cannot join.
    """
    variable, arguments = _environment()
    if variable is None and not asked:
        yield
        return
    _supervise()
    try:
        with _speaking(variable):
            jax.distributed.initialize(
                **arguments,
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
            # JAX is about to abort this process; `_supervise` then prints why.
            time.sleep(heartbeat + 5)
        _leave(error.code if isinstance(error, SystemExit) else 1)


def on_first(function: Callable[[], Any]) -> Any:
    """Runs function() in the first process and returns its value, a JSON value, in all of them.

    The other processes wait. If the function raises, they raise Refusal with the same text.
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
    text = np.resize(text, length)  # broadcasting needs equal lengths, and overwrites the content
    outcome = json.loads(bytes(broadcast_one_to_all(text)))
    if failure is not None:
        raise failure
    if "refused" in outcome:
        raise workdir.Refusal(outcome["refused"])
    return outcome["value"]


def everywhere(tree: Any) -> Any:
    """Returns the whole arrays in NumPy, in every process, with the rows that other processes hold."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental.multihost_utils import process_allgather

    return process_allgather(tree, tiled=True)


def _environment() -> tuple[str | None, dict[str, Any]]:
    """Returns the variable that says that there are several processes, or None if there is one process.

    The second value has the arguments of jax.distributed.initialize that JAX does not find itself.
    """
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    address, count, number = map(os.environ.get, names)
    if address and count and number:
        for name, value in (("JAX_NUM_PROCESSES", count), ("JAX_PROCESS_ID", number)):
            require(value.isdecimal(), "distributed", "", f"{name}={value} must be a whole number")
        one = f"JAX_PROCESS_ID={number} must be below JAX_NUM_PROCESSES={count}"
        require(int(number) < int(count), "distributed", "", one)
        found = {"coordinator_address": address, "num_processes": int(count), "process_id": int(number)}
        return "JAX_NUM_PROCESSES", found
    several = {
        "SLURM_NTASKS": bool(os.environ.get("SLURM_STEP_NODELIST")) and _several("SLURM_NTASKS"),
        "OMPI_COMM_WORLD_SIZE": _several("OMPI_COMM_WORLD_SIZE"),
        "TPU_WORKER_HOSTNAMES": "," in os.environ.get("TPU_WORKER_HOSTNAMES", ""),
    }
    return next((name for name, found in several.items() if found), None), {}


@contextlib.contextmanager
def _speaking(variable: str | None) -> Iterator[None]:
    """Within, a line says after QUIET_SECONDS for what this process waits."""
    why = f" ({variable}={os.environ[variable]})" if variable else ""
    alone = f"; to run this process alone, unset {variable}" if variable else ""
    text = f"waiting for the other processes of the run{why}, for up to {START_SECONDS} s{alone}"
    timer = threading.Timer(QUIET_SECONDS, console.say, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _several(name: str) -> bool:
    """Whether the variable holds a number above 1; hosts also leave such variables empty."""
    value = os.environ.get(name, "")
    return value.isdecimal() and int(value) > 1


def _supervise() -> None:
    """Forks: the child continues; the parent waits for it and explains an end by a signal.

    When another process of the run dies, a thread of JAX ends this one by SIGABRT, which Python cannot
    catch. Only a second process can tell the user what that means.
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
        lost = "another process of the run has died, or cannot be reached; " * (status == -signal.SIGABRT)
        console.complain(
            f"this process has ended ({name}): {lost}run the same command again on all hosts, "
            "and it goes on from the newest checkpoint"
        )
        status = PEER_LOST
    os._exit(status)


def _of_another_process(error: BaseException | None) -> bool:
    """Whether JAX's runtime caused the error, as it does in a collective when another process has died."""
    while error is not None:
        if isinstance(error, jax.errors.JaxRuntimeError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _send(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)


def _die_with(parent: int) -> None:
    """Asks the kernel, if it is Linux, to kill this process when its parent dies."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG in <sys/prctl.h>
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(PEER_LOST)


def _leave(status: Any) -> None:
    """Ends this process now. The first process waits 2 s, because its end aborts the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_index() == 0:
        time.sleep(2.0)
    os._exit(status if isinstance(status, int) else 1)
