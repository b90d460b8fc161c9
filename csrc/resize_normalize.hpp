#pragma once

#include <cstddef>
#include <cstdint>

namespace rdx {

// A camera frame: `height` rows of `width` pixels of `channels` interleaved bytes (1 or 3).
struct Frame {
    const std::uint8_t* data;
    std::size_t height, width, channels;
    std::ptrdiff_t row_pitch;  // bytes from one row to the next
};

// Antialiased bilinear resize as PIL does it, without rounding to grey levels, then
// value * gain[c] + offset[c]. `out` is [3, out_height, out_width]; mono fills all three planes.
void resize_normalize(const Frame& frame, float* out, std::size_t out_height,
                      std::size_t out_width, const float gain[3], const float offset[3]);

}  // namespace rdx
