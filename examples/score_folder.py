"""Score a folder of photographs: a verdict for each, a heat map of each part that is rejected.

python examples/score_folder.py part.rdx photos heatmaps
"""

import argparse
import sys
from pathlib import Path

from rdx_fast import Detector, RdxError
from rdx_fast.errors import ImageError
from rdx_fast.images import list_images, read_image
from rdx_fast.overlay import save_overlay


def score_folder(bundle: Path, photos: Path, heatmaps: Path) -> dict[str, int]:
    """Print a line for each photograph; returns how many there are of each verdict."""
    counts = {"OK": 0, "REVIEW": 0, "NG": 0, "ERROR": 0}
    with Detector(bundle) as detector:
        shown = detector.recipe.frame
        detector.warmup()  # or the first photograph waits for buffers and caches
        for path in list_images(photos):
            name = path.relative_to(photos)
            try:
                frame = read_image(path)
                result = detector.score(frame)  # 16 bits need levels=(black, white)
            except (ImageError, ValueError) as error:
                # A bad file is not a good part, and not the end either.
                counts["ERROR"] += 1
                print(f"{name}: ERROR {error.reason if isinstance(error, ImageError) else error}")
                continue
            verdict = result.verdicts[0]
            counts[verdict] += 1
            print(f"{name}: {verdict} {result.scores[0]:.4f}")
            if verdict != "OK" and result.anomaly_maps is not None:
                target = heatmaps / f"{name}.png"  # so that a.jpg and a.png do not meet
                heat = detector.relative_map(result.anomaly_maps[0])
                save_overlay(target, frame, heat, detector.labels, shown.crop, shown.levels)
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Score a folder of photographs.")
    parser.add_argument("bundle", type=Path, help="engine bundle, as 'rdx-fast export' wrote it")
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("heatmaps", type=Path, help="folder for the heat maps")
    given = parser.parse_args()
    try:
        found = score_folder(given.bundle, given.photos, given.heatmaps)
    except RdxError as error:  # its message says what was given, what is wanted and what to do
        sys.exit(f"error: {error}")
    print(", ".join(f"{count} {verdict}" for verdict, count in found.items()))
    sys.exit(1 if found["ERROR"] else 0)
