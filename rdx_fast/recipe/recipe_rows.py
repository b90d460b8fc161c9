"""What a recipe states, in words."""

from __future__ import annotations

from rdx_fast.recipe.recipe import InspectionRecipe


def recipe_rows(recipe: InspectionRecipe) -> list[tuple[str, str]]:
    """Names and values of what a recipe states, for a table."""
    frame = recipe.frame
    size = "any size" if frame.size is None else f"{frame.height} x {frame.width} pixels"
    rows = [("frame", f"{size}, {frame.pixel_format or 'RGB, or mono for one channel'}")]
    if frame.crop is not None:
        rows += [("crop", "top {}, left {}, {} x {} pixels".format(*frame.crop))]
    if frame.levels is not None:
        rows += [("grey levels", "black {}, white {}".format(*frame.levels))]
    if recipe.tiles is not None:
        tiles = recipe.tiles
        rows += [("tiles", f"{tiles.height} x {tiles.width} pixels, overlap {tiles.overlap}")]
    for region in recipe.regions:
        shape = f"mask {region.mask}"
        if region.polygon is not None:
            shape = f"polygon of {len(region.polygon)} corners"
        rows += [(f"region {region.name}", f"{region.kind}, {shape}")]
    rows += [("inspected", ", ".join(recipe.inspected))]
    if recipe.mm_per_pixel is not None:
        rows += [("scale", f"{recipe.mm_per_pixel:g} mm a pixel")]
    if recipe.deadline_ms is not None:
        rows += [("deadline", f"{recipe.deadline_ms:g} ms")]
    return rows + [(f"camera {name}", str(value)) for name, value in recipe.camera.items()]
