"""Look at a part of the picture, take the camera's own pixels, and list where the defects are.

python examples/regions.py part.rdx frame.png --crop 0 200 1024 1024 --mask mask.png
"""

import argparse
import sys
from pathlib import Path

from rdx_fast import Detector, RdxError, Region, open_bundle, open_engine, threshold_regions
from rdx_fast.images import read_grey, read_image, resize_mask

FORMATS = ("rgb", "bgr", "mono", "bayer_rggb", "bayer_bggr", "bayer_grbg", "bayer_gbrg")


def find_defects(
    bundle: Path,
    frame: Path,
    crop: tuple[int, int, int, int] | None,
    mask: Path | None,
    pixel_format: str | None,
) -> tuple[str, list[Region]]:
    """The verdict of the part, and its defects in pixels of the whole frame."""
    opened = open_bundle(bundle)
    size = opened.manifest.map
    # The region of interest has the size of the anomaly map, whatever that of the frame is.
    region = None if mask is None else resize_mask(read_grey(mask), size.height, size.width)
    pixels = read_image(frame)
    with Detector(open_engine(opened), region=region) as detector:
        result = detector.score(pixels, pixel_format=pixel_format, crop=crop)
    assert result.anomaly_maps is not None
    # By the threshold in force, which the result states.
    defects = threshold_regions(
        result.anomaly_maps[0], result.threshold, pixels.shape[:2], crop, region
    )
    return result.verdicts[0], defects


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="List the defects of a part.")
    parser.add_argument("bundle", type=Path, help="engine bundle, as 'rdx-fast export' wrote it")
    parser.add_argument("frame", type=Path, help="picture as the camera gives it")
    parser.add_argument(
        "--crop", type=int, nargs=4, metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"), help="in pixels"
    )
    parser.add_argument("--mask", type=Path, help="of the crop, of any size: white counts")
    parser.add_argument("--pixel-format", choices=FORMATS, help="else rgb, or mono if it is grey")
    given = parser.parse_args()
    try:
        verdict, found = find_defects(
            given.bundle,
            given.frame,
            tuple(given.crop) if given.crop else None,
            given.mask,
            given.pixel_format,
        )
    except (RdxError, ValueError) as error:  # ValueError: a crop or format that does not fit
        sys.exit(f"error: {error}")
    print(verdict)
    for defect in found:
        top, left, height, width = defect.box_px
        print(
            f"defect at top {top}, left {left}, {height} x {width}: peak {defect.peak:.4f}, "
            f"{defect.area_px:.0f} pixels"
        )
