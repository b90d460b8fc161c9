#pragma once

#include <cstddef>
#include <cstdint>

#include "isa.hpp"

namespace rdx {

enum class PixelFormat { rgb, bgr, mono, bayer };

// A camera frame: `channels` interleaved values a pixel, `pitch` bytes from row to row.
struct Frame {
    const std::byte* data;
    Levels levels;
    std::size_t channels;
    std::ptrdiff_t pitch;
    PixelFormat format;
    std::size_t red_row, red_column;  // parity of the red pixels of a Bayer pattern

    std::size_t pixel_bytes() const { return channels * (levels.wide ? 2 : 1); }
};

// Filter along one axis: output i is the sum of weights[table, i, k] * input[first[i] + k]. Table 0
// is the plain filter. For Bayer patterns table 1 also fills in the rows (columns) between red or
// blue ones, table 2 a quarter of each green neighbour.
struct Taps {
    const std::int32_t* first;
    const float* weights;
    std::size_t count, taps;

    const float* table(std::size_t t) const { return weights + t * count * taps; }
};

// The network's input [3, rows.count, columns.count]; strides in elements, in that order.
struct Input {
    void* data;
    Element element;
    std::ptrdiff_t strides[3];
};

// Resize, then value * gain[c] + offset[c]; mono fills all three channels.
void resize_normalize(const Isa& isa, const Frame& frame, const Taps& rows, const Taps& columns,
                      const float gain[3], const float offset[3], const Input& out,
                      std::size_t threads);

}  // namespace rdx
