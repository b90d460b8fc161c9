"""Long work on bundles in threads of their own: one task for each job at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock, Thread

from rdx_fast.errors import RdxError
from rdx_fast.wording import without_folders

log = logging.getLogger(__name__)
OnProgress = Callable[[float], None]


class BusyError(RdxError):
    """A task of the same job is running."""


@dataclass(slots=True)
class Task:
    """Work on a job's bundle, until the next one begins.

    Attributes:
        task: what it is, such as "regions"
        user: who began it
        progress: share that is done, 0 to 1
        running: whether it still runs
        error: why it failed; None while it runs and if it did not
    """

    task: str
    user: str
    progress: float = 0.0
    running: bool = True
    error: str | None = None


class Tasks:
    """Runs tasks. Used by any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tasks: dict[int, Task] = {}

    def describe(self, job: int, with_folders: bool) -> dict[str, object] | None:
        """The last task of a job as JSON; None if there was none, or it ended well. Without
        ``with_folders`` its error does not say where files lie."""
        task = self._tasks.get(job)
        if task is None or not (task.running or task.error):
            return None
        error = task.error
        if error is not None and not with_folders:
            error = without_folders(error)
        return {
            "task": task.task,
            "user": task.user,
            "progress": task.progress,
            "error": error,
        }

    def start(self, job: int, name: str, user: str, work: Callable[[OnProgress], None]) -> Task:
        """Start a task in a thread.

        Args:
            job: id of the job
            name: what it is
            user: who begins it
            work: does it; takes a function that it calls with the share that is done. What it
                raises becomes the task's error

        Raises:
            BusyError: one of the job is running
        """
        with self._lock:
            self.check_free(job)
            task = self._tasks[job] = Task(name, user)
        Thread(target=_run, args=(job, task, work), name=f"{name}-{job}", daemon=True).start()
        return task

    def check_free(self, job: int) -> None:
        """Raises ``BusyError`` if a task of the job is running."""
        task = self._tasks.get(job)
        if task is not None and task.running:
            raise BusyError(
                f"{task.user} has begun {task.task} of job {job}, which runs: wait until it ends"
            )


def _run(job: int, task: Task, work: Callable[[OnProgress], None]) -> None:
    def on_progress(share: float) -> None:
        task.progress = share

    try:
        work(on_progress)
    except (RdxError, ValueError, OSError) as error:
        task.error = str(error)
        log.warning("a task failed", extra={"job": job, "task": task.task, "error": str(error)})
    except Exception:
        task.error = "it failed: the log of the page's server says why"
        log.exception("a task failed", extra={"job": job, "task": task.task})
    finally:
        task.running = False
