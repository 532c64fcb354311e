"""Runs of the small experiment in processes of their own, one or several that share it.

    python -m tests.launch.fleet --workdir DIR ...     is `tiny` as a command

A planted fault is an environment variable: see `build`.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests import compiler

ROOT = Path(__file__).parent.parent.parent
HEARTBEAT = 10
"""Seconds after which a dead process is noticed."""


def free_port() -> int:
    """A port that no process listens at."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def start(
    *flags: str, processes: int = 1, devices: int = 1, env: dict | None = None
) -> list[subprocess.Popen]:
    """The processes, running; with their output in pipes."""
    port = free_port()
    shared = os.environ | compiler.environment(devices) | (env or {})
    begun = []
    for number in range(processes):
        several = {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": str(number),
        }
        options = {"cwd": ROOT, "env": shared | (several if processes > 1 else {}), "start_new_session": True}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen([sys.executable, "-m", __name__, *flags], **options, **pipes))
    return begun


def finish(begun: list[subprocess.Popen], *, seconds: float = 90) -> list[tuple[int, str, str]]:
    """(exit status, output, errors) of each; those that do not end in time are killed, and fail the test."""
    deadline, ended = time.monotonic() + seconds, []
    try:
        for process in begun:
            output, errors = process.communicate(timeout=max(1, deadline - time.monotonic()))
            ended.append((process.returncode, output, errors))
    finally:
        for process in begun:
            kill(process)
    return ended


def run(*flags: str, **options) -> list[tuple[int, str, str]]:
    """Start and finish."""
    return finish(start(*flags, **options))


def kill(process: subprocess.Popen) -> None:
    """kill -9 of a process and of all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def newest_step(folder: Path) -> int:
    """The last step that the run in the folder has logged; 0 if there is none."""
    from jaxscore.launch import metrics_log

    return max([0, *(row["step"] for row in metrics_log.read(folder / "metrics.jsonl"))])


def wait_for_step(folder: Path, step: int, *, seconds: float = 60) -> None:
    """Until the run in the folder has logged that step."""
    deadline = time.monotonic() + seconds
    while newest_step(folder) < step:
        assert time.monotonic() < deadline, f"no step {step} in {folder}"
        time.sleep(0.02)


def build(config):
    """`tiny`, with what the environment plants: JAXSCORE_TEST_SLOW, the seconds that each batch takes."""
    from tests.launch import tiny

    slow = float(os.environ.get("JAXSCORE_TEST_SLOW", 0))
    pause = dict.fromkeys(range(config.steps), lambda: time.sleep(slow))
    return tiny.build(config, tiny.hooks(before=pause))


def main() -> None:
    """The command."""
    from jaxscore import launch
    from tests.launch import tiny

    launch.main(build, tiny.Config(heartbeat=HEARTBEAT))


if __name__ == "__main__":
    main()
