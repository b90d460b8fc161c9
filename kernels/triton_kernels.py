"""The GPU's kernels, in Triton: one source for running them live and for ahead-of-time builds.

How each is called, and with which block sizes, is in the file of its name in ``gpu``. A scale that
is absent has no blocks and size 0. Up to ``MAX_SCALES`` scales go in one launch.
"""

from __future__ import annotations

import triton
import triton.language as tl

# The same in cosine_map.py and csrc/cosine_map.simd.cpp.
EPS = tl.constexpr(1e-8)  # torch.nn.functional.cosine_similarity's
INTERLEAVED = tl.constexpr(0)
MONO = tl.constexpr(1)
BAYER = tl.constexpr(2)
# Another size must not mean another compilation, which would come in the middle of a live call.
SIZES = [
    *(f"{name}{s}" for s in range(3) for name in ("channels", "count", "blocks", "h", "w")),
    *("has_labels", "regions", "top_k", "write_maps", "height", "width"),
    *("frame_stride", "pitch", "red", "red_row", "red_column", "black", "span"),
    *("row_taps", "column_taps"),
    *("image_stride", "channel_stride", "row_stride"),
]


@triton.jit(do_not_specialize=SIZES)
def cosine_map(
    t0, s0, d0, channels0, count0, blocks0,
    t1, s1, d1, channels1, count1, blocks1,
    t2, s2, d2, channels2, count2,
    CHANNELS_LAST: tl.constexpr, ALIGNED: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """1 - cosine similarity over channels; program (block of positions over all scales, image).

    ``t, s``: teacher and student ``[B, channels, count]``, or ``[B, count, channels]`` if
    ``CHANNELS_LAST``; ``d``: ``[B, count]`` float32. ``ALIGNED``: channels and counts are multiples
    of 16, and so loads can be wide; ``STAGES``: blocks of channels that are in work at once.
    """
    block = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    if block < blocks0:
        teacher, student, out, channels, count = t0, s0, d0, channels0, count0
    elif block < blocks0 + blocks1:
        teacher, student, out, channels, count = t1, s1, d1, channels1, count1
        block -= blocks0
    else:
        teacher, student, out, channels, count = t2, s2, d2, channels2, count2
        block -= blocks0 + blocks1
    if ALIGNED:
        channels = channels // 16 * 16  # what the compiler can see; a hint would be lost here
        count = count // 16 * 16
    p = block * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.arange(0, BLOCK_C)
    if CHANNELS_LAST:
        offsets = c[:, None] + p[None, :] * channels
        step = BLOCK_C
    else:
        offsets = c[:, None] * count + p[None, :]
        step = BLOCK_C * count
    teacher += image * channels * count
    student += image * channels * count
    dot = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    tt = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    ss = tl.zeros((BLOCK_C, BLOCK_P), tl.float32)
    # Without a product in it, a loop is pipelined only if it asks for stages itself.
    for start in tl.range(0, channels, BLOCK_C, num_stages=STAGES):
        bounds_mask = (start + c < channels)[:, None] & (p < count)[None, :]
        t = tl.load(teacher + offsets, bounds_mask, other=0.0).to(tl.float32)
        s = tl.load(student + offsets, bounds_mask, other=0.0).to(tl.float32)
        dot += t * s
        tt += t * t
        ss += s * s
        teacher += step
        student += step
    norm_t = tl.maximum(tl.sqrt_rn(tl.sum(tt, 0)), EPS)
    norm_s = tl.maximum(tl.sqrt_rn(tl.sum(ss, 0)), EPS)
    distance = 1.0 - tl.div_rn(tl.sum(dot, 0), norm_t * norm_s)
    tl.store(out + image * count + p, distance, p < count)


@triton.jit
def _is_nan(values):
    return values != values  # noqa: PLR0124


@triton.jit
def _add_scale(
    total, distances, h, w, matrices, bands, image, y, x, height, width, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """``total + rows[y] @ distances @ columns[:, x]``, over the inputs that the tile draws on.

    ``matrices``: rows ``[height, h]``, then columns ``[w, width]``; ``bands``: first and end of
    each row, first and end of each column.
    """
    columns = matrices + height * h
    first_y = tl.min(tl.load(bands + y, y < height, other=h))
    end_y = tl.max(tl.load(bands + height + y, y < height, other=0))
    first_x = tl.min(tl.load(bands + 2 * height + x, x < width, other=w))
    end_x = tl.max(tl.load(bands + 2 * height + width + x, x < width, other=0))
    distances += image * h * w
    for kx in range(first_x, end_x, BLOCK_K):
        u = kx + tl.arange(0, BLOCK_K)
        tall = tl.zeros((y.shape[0], BLOCK_K), tl.float32)
        for ky in range(first_y, end_y, BLOCK_K):
            v = ky + tl.arange(0, BLOCK_K)
            bounds_mask = (y < height)[:, None] & (v < end_y)[None, :]
            left = tl.load(matrices + y[:, None] * h + v[None, :], bounds_mask, other=0.0)
            bounds_mask = (v < end_y)[:, None] & (u < end_x)[None, :]
            middle = tl.load(distances + v[:, None] * w + u[None, :], bounds_mask, other=0.0)
            tall = tl.dot(left, middle, tall, input_precision="ieee")
        bounds_mask = (u < end_x)[:, None] & (x < width)[None, :]
        right = tl.load(columns + u[:, None] * width + x[None, :], bounds_mask, other=0.0)
        total = tl.dot(tall, right, total, input_precision="ieee")
    return total


@triton.jit
def _load_inside(maps, labels, has_labels, start, size, BLOCK: tl.constexpr):
    """Values of a map, and whether they lie in a region."""
    i = start + tl.arange(0, BLOCK)
    inside = i < size
    if has_labels != 0:
        inside = inside & (tl.load(labels + i, inside, other=0) != 0)
    return tl.load(maps + i, inside, other=0.0), inside


@triton.jit
def _ordered(values):
    """float32 as uint32 in the same order, which begins above 0. NaN, if positive, comes last."""
    bits = values.to(tl.uint32, bitcast=True)
    return tl.where((bits >> 31) != 0, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def _from_ordered(keys):
    bits = tl.where((keys >> 31) != 0, keys ^ 0x80000000, keys ^ 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _mean_of_largest(maps, labels, has_labels, size, k, BLOCK: tl.constexpr):
    """Mean of the ``k`` largest values: the k-th is found by its bits, eight at a time."""
    bins = tl.arange(0, 256)
    found = tl.zeros((), tl.uint32)
    left = k
    for digit in tl.static_range(4):
        shift = 24 - 8 * digit
        counts = tl.zeros((256,), tl.int32)
        for start in range(0, size, BLOCK):
            values, inside = _load_inside(maps, labels, has_labels, start, size, BLOCK)
            keys = _ordered(values)
            if digit > 0:
                inside = inside & ((keys >> (shift + 8)) == (found >> (shift + 8)))
            counts += tl.histogram(((keys >> shift) & 255).to(tl.int32), 256, mask=inside)
        above = tl.sum(counts) - tl.cumsum(counts)
        chosen = tl.sum((above >= left).to(tl.int32))
        left -= tl.sum(tl.where(bins == chosen, above, 0))
        found |= chosen.to(tl.uint32) << shift
    larger = 0.0
    kth = -float("inf")
    for start in range(0, size, BLOCK):
        values, inside = _load_inside(maps, labels, has_labels, start, size, BLOCK)
        keys = _ordered(values)
        larger += tl.sum(tl.where(inside & (keys > found), values, 0.0))
        kth = tl.maximum(kth, tl.max(tl.where(inside & (keys == found), values, -float("inf"))))
    return (larger + left.to(tl.float32) * kth) / k.to(tl.float32)


@triton.jit
def _read_regions(values, label, threshold, thresholds, regions, keys, areas):
    """Add to ``keys`` and ``areas`` what a tile holds of each region; ``threshold`` is the first's,
    loaded before."""
    first = 1
    last = 1
    if regions > 1:  # those that the tile may hold
        first = tl.min(tl.where(label > 0, label, regions + 1))
        last = tl.max(label)
    for region in range(first, last + 1):
        if region > 1:
            threshold = tl.load(thresholds + region - 1)
        inside = tl.where(label == region, values, -float("inf"))
        area = tl.sum((inside > threshold).to(tl.int32))
        tl.atomic_max(keys + region - 1, _ordered(tl.max(inside)), sem="relaxed")
        tl.atomic_add(areas + region - 1, area, sem="relaxed")


@triton.jit(do_not_specialize=SIZES)
def smooth_map(
    d0, h0, w0, d1, h1, w1, d2, h2, w2, matrices, bands,
    labels, has_labels, thresholds, regions, top_k,
    maps, write_maps, keys_so_far, areas_so_far, tiles_done, maxima, areas, top_means,
    height, width,
    BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``sum_s rows_s @ d_s @ columns_s`` and its epilogue; program (tile of the map, image).

    ``d``: ``[B, h, w]`` float32; ``matrices``, ``bands``: of all scales, one after the other (see
    ``_add_scale``); ``labels``: ``[height, width]`` uint8, see ``epilogue.Epilogue``;
    ``thresholds``: ``[regions]``, at most ``BLOCK``. Written: ``maps`` ``[B, height, width]`` if
    ``write_maps`` (it must be if ``top_k > 0``), ``maxima``, ``areas`` ``[B, regions]``,
    ``top_means`` ``[B]``. Scratch, zero before and after: ``keys_so_far`` uint32, ``areas_so_far``
    int32 ``[B, regions]``, of the tiles that are done; ``tiles_done`` int32 ``[B]``. The program
    that finishes an image last writes its results.
    """
    tile = tl.program_id(0)
    tiles = tl.num_programs(0)
    image = tl.program_id(1).to(tl.int64)
    across = tl.cdiv(width, BLOCK_X)
    y = (tile // across) * BLOCK_Y + tl.arange(0, BLOCK_Y)
    x = (tile % across) * BLOCK_X + tl.arange(0, BLOCK_X)
    threshold = tl.load(thresholds)  # of the first region: here nothing waits for it
    total = tl.zeros((BLOCK_Y, BLOCK_X), tl.float32)
    total = _add_scale(total, d0, h0, w0, matrices, bands, image, y, x, height, width, BLOCK_K)
    if h1 > 0:
        matrices += height * h0 + width * w0
        bands += 2 * height + 2 * width
        total = _add_scale(total, d1, h1, w1, matrices, bands, image, y, x, height, width, BLOCK_K)
    if h2 > 0:
        matrices += height * h1 + width * w1
        bands += 2 * height + 2 * width
        total = _add_scale(total, d2, h2, w2, matrices, bands, image, y, x, height, width, BLOCK_K)

    bounds_mask = (y < height)[:, None] & (x < width)[None, :]
    offsets = y[:, None] * width + x[None, :]
    maps += image * height * width
    if write_maps != 0:
        tl.store(maps + offsets, total, bounds_mask)
    keys_so_far += image * regions
    areas_so_far += image * regions
    label = bounds_mask.to(tl.int32)  # without labels, all belongs to region 1
    if has_labels != 0:
        label = tl.load(labels + offsets, bounds_mask, other=0).to(tl.int32)
    _read_regions(total, label, threshold, thresholds, regions, keys_so_far, areas_so_far)
    i = tl.arange(0, BLOCK)
    each = i < regions
    # NaN counts also outside all regions: such a network is not to be trusted.
    if tl.max((bounds_mask & _is_nan(total)).to(tl.int32)) != 0:
        broken = tl.full((BLOCK,), float("nan"), tl.float32)
        tl.atomic_max(keys_so_far + i, _ordered(broken), each, sem="relaxed")

    tl.debug_barrier()  # all of this program's stores come before its word that it is done
    before = tl.atomic_add(tiles_done + image, 1, sem="acq_rel")
    if before == tiles - 1:
        tl.debug_barrier()
        largest = _from_ordered(tl.load(keys_so_far + i, each, other=0))
        area = tl.load(areas_so_far + i, each, other=0)
        tl.store(maxima + image * regions + i, largest, each)
        tl.store(areas + image * regions + i, area.to(tl.int64), each)
        tl.debug_barrier()  # all was read before it is cleared
        tl.store(keys_so_far + i, 0, each)
        tl.store(areas_so_far + i, 0, each)
        tl.store(tiles_done + image, 0)
        if top_k > 0:
            mean = _mean_of_largest(maps, labels, has_labels, height * width, top_k, BLOCK)
            broken = tl.max((each & _is_nan(largest)).to(tl.int32))
            tl.store(top_means + image, tl.where(broken != 0, float("nan"), mean))


@triton.jit
def _upsampled(distances, h, w, image, y, x, height, width, bounds_mask):
    """Bilinear with aligned corners; positions as fractions of integers, which are exact."""
    down = tl.maximum(height - 1, 1)
    across = tl.maximum(width - 1, 1)
    top = y * (h - 1) // down
    left = x * (w - 1) // across
    weight_y = (y * (h - 1) - top * down).to(tl.float32) / down.to(tl.float32)
    weight_x = (x * (w - 1) - left * across).to(tl.float32) / across.to(tl.float32)
    bottom = tl.minimum(top + 1, h - 1)
    right = tl.minimum(left + 1, w - 1)
    distances += image * h * w
    top_row = distances + top * w
    bottom_row = distances + bottom * w
    upper = tl.load(top_row + left, bounds_mask, other=0.0) * (1 - weight_x)
    upper += tl.load(top_row + right, bounds_mask, other=0.0) * weight_x
    lower = tl.load(bottom_row + left, bounds_mask, other=0.0) * (1 - weight_x)
    lower += tl.load(bottom_row + right, bounds_mask, other=0.0) * weight_x
    return upper * (1 - weight_y) + lower * weight_y


@triton.jit(do_not_specialize=SIZES)
def fuse_mul(d0, h0, w0, d1, h1, w1, d2, h2, w2, product, height, width, BLOCK: tl.constexpr):
    """Product of the upsampled scales, ``[B, height, width]``; program (block of pixels, image).

    The Gaussian and the epilogue are ``smooth_map``'s, with the product for its only scale.
    """
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    image = tl.program_id(1).to(tl.int64)
    bounds_mask = i < height * width
    y = i // width
    x = i % width
    result = _upsampled(d0, h0, w0, image, y, x, height, width, bounds_mask)
    if h1 > 0:
        result *= _upsampled(d1, h1, w1, image, y, x, height, width, bounds_mask)
    if h2 > 0:
        result *= _upsampled(d2, h2, w2, image, y, x, height, width, bounds_mask)
    tl.store(product + image * height * width + i, result, bounds_mask)


@triton.jit
def _load_levels(pixel, bounds_mask, black, span):
    """Grey levels: uint8 as they are, or uint16 clipped to black and white, counted from black."""
    level = tl.load(pixel, bounds_mask, other=0)
    if pixel.dtype.element_ty == tl.uint16:
        level = tl.minimum(tl.maximum(level.to(tl.int32) - black, 0), span)
    return level.to(tl.float32)


@triton.jit(do_not_specialize=SIZES)
def resize_normalize(  # noqa: PLR0915
    frames, frame_stride, pitch, red, red_row, red_column, black, span,
    row_first, row_weights, row_taps, column_first, column_weights, column_taps,
    gain, offset, out, image_stride, channel_stride, row_stride, column_stride, height, width,
    FORMAT: tl.constexpr, BLOCK_Y: tl.constexpr, BLOCK_X: tl.constexpr,
):  # fmt: skip
    """Camera frames to the network's input; program (tile of the input, frame).

    ``frames``: uint8 or uint16, all strides in elements; ``red``: where red lies in an interleaved
    pixel, 0 or 2; ``span``: levels from black to white; filters as ``resize_normalize.Taps``.
    """
    across = tl.cdiv(width, BLOCK_X)
    i = (tl.program_id(0) // across) * BLOCK_Y + tl.arange(0, BLOCK_Y)
    j = (tl.program_id(0) % across) * BLOCK_X + tl.arange(0, BLOCK_X)
    image = tl.program_id(1).to(tl.int64)
    frames += image * frame_stride
    first_y = tl.load(row_first + i, i < height, other=0)
    first_x = tl.load(column_first + j, j < width, other=0)
    bounds_mask = (i < height)[:, None] & (j < width)[None, :]
    r = tl.zeros((BLOCK_Y, BLOCK_X), tl.float32)
    g = tl.zeros((BLOCK_Y, BLOCK_X), tl.float32)
    b = tl.zeros((BLOCK_Y, BLOCK_X), tl.float32)
    for ky in range(row_taps):
        v = first_y + ky
        wy = tl.load(row_weights + i * row_taps + ky, i < height, other=0.0)[:, None]
        if FORMAT == BAYER:
            rows = row_weights + height * row_taps
            filled_y = tl.load(rows + i * row_taps + ky, i < height, other=0.0)[:, None]
            rows += height * row_taps
            near_y = tl.load(rows + i * row_taps + ky, i < height, other=0.0)[:, None]
        for kx in range(column_taps):
            u = first_x + kx
            wx = tl.load(column_weights + j * column_taps + kx, j < width, other=0.0)[None, :]
            if FORMAT == INTERLEAVED:
                pixel = frames + v.to(tl.int64)[:, None] * pitch + u[None, :] * 3
                r += wy * wx * _load_levels(pixel + red, bounds_mask, black, span)
                g += wy * wx * _load_levels(pixel + 1, bounds_mask, black, span)
                b += wy * wx * _load_levels(pixel + 2 - red, bounds_mask, black, span)
            else:
                pixel = frames + v.to(tl.int64)[:, None] * pitch + u[None, :]
                level = _load_levels(pixel, bounds_mask, black, span)
                if FORMAT == MONO:
                    r += wy * wx * level
                else:
                    # Each pixel gives to its own colour, with demosaicing folded into its weight.
                    columns = column_weights + width * column_taps + kx
                    filled_x = tl.load(columns + j * column_taps, j < width, other=0.0)[None, :]
                    columns += width * column_taps
                    near_x = tl.load(columns + j * column_taps, j < width, other=0.0)[None, :]
                    in_red_row = (v % 2 == red_row)[:, None]
                    in_red_column = (u % 2 == red_column)[None, :]
                    filled = filled_y * filled_x * level
                    r += tl.where(in_red_row & in_red_column, filled, 0.0)
                    b += tl.where((in_red_row | in_red_column) == 0, filled, 0.0)
                    green = (wy + near_y) * wx * level + wy * near_x * level
                    g += tl.where(in_red_row != in_red_column, green, 0.0)
    if FORMAT == MONO:
        g = r
        b = r
    out += image * image_stride
    at = out + i[:, None] * row_stride + j[None, :] * column_stride
    tl.store(at, r * tl.load(gain) + tl.load(offset), bounds_mask)
    tl.store(at + channel_stride, g * tl.load(gain + 1) + tl.load(offset + 1), bounds_mask)
    tl.store(at + 2 * channel_stride, b * tl.load(gain + 2) + tl.load(offset + 2), bounds_mask)
