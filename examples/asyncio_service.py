"""Inspect inside an asyncio program: its event loop goes on while the network runs.

python examples/asyncio_service.py part.rdx photos --deadline-ms 500
"""

import argparse
import asyncio
import sys
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from rdx_fast import Detector, RdxError
from rdx_fast.errors import ImageError
from rdx_fast.images import list_images, read_image
from rdx_fast.preprocess import Frame


class Part(NamedTuple):
    part_id: int
    due: float  # of the loop's clock
    frame: Frame | None  # None: there is no picture of it


Parts = asyncio.Queue[Part | None]  # None: there are no more


async def take_pictures(files: list[Path], deadline_s: float, parts: Parts) -> None:
    """The camera."""
    for part_id, path in enumerate(files, 1):
        due = asyncio.get_running_loop().time() + deadline_s  # waiting in the queue counts
        try:
            frame = await asyncio.to_thread(read_image, path)
        except ImageError:
            frame = None
        await parts.put(Part(part_id, due, frame))
    await parts.put(None)


async def inspect(detector: Detector, engine: Executor, part: Part) -> str:
    """Only "OK" is a good part: one that is late or fails was not inspected."""
    if part.frame is None:
        return "ERROR (no picture)"
    try:
        async with asyncio.timeout_at(part.due):
            # Detector.score lets other threads run: this loop is one of them.
            result = await asyncio.get_running_loop().run_in_executor(
                engine, detector.score, part.frame
            )
    except TimeoutError:
        return "LATE"  # what the thread still computes is nobody's answer
    except (RdxError, ValueError) as error:
        return f"ERROR ({error})"
    return result.verdicts[0]


async def beat(beats: list[float]) -> None:
    """What else the program does: here a sign of life, as a PLC wants one."""
    while True:
        beats.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.05)


async def serve(detector: Detector, engine: Executor, files: list[Path], deadline_s: float) -> None:
    parts: Parts = asyncio.Queue(maxsize=2)  # if it is full, the camera waits
    beats: list[float] = []
    async with asyncio.TaskGroup() as tasks:
        heart = tasks.create_task(beat(beats))
        tasks.create_task(take_pictures(files, deadline_s, parts))
        while (part := await parts.get()) is not None:
            verdict = await inspect(detector, engine, part)
            print(f"part {part.part_id}: {verdict}, {'accept' if verdict == 'OK' else 'reject'}")
        heart.cancel()
    print(f"{len(beats)} heartbeats meanwhile")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Inspect inside an asyncio program.")
    parser.add_argument("bundle", type=Path, help="engine bundle, as 'rdx-fast export' wrote it")
    parser.add_argument("photos", type=Path, help="folder of photographs, in place of a camera")
    parser.add_argument("--deadline-ms", type=float, default=500, help="from picture to verdict")
    given = parser.parse_args()
    try:
        # One thread: parts in order. It ends before the Detector is closed, also after Ctrl-C.
        with Detector(given.bundle) as opened, ThreadPoolExecutor(1) as thread:
            opened.warmup()
            photos = list_images(given.photos)
            asyncio.run(serve(opened, thread, photos, given.deadline_ms / 1000))
    except RdxError as error:
        sys.exit(f"error: {error}")
