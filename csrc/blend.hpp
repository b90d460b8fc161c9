#pragma once

#include <cstddef>
#include <cstdint>

#include "isa.hpp"

namespace rdx {

// Maps [count, height, width], their weights by row [count, height] and by column [count, width],
// and the pixels of a canvas that their first ones lie on: places [count, 2], row and column.
struct Tiles {
    std::size_t count, height, width;
    const float *maps, *rows, *columns;
    const std::int64_t* places;
};

// Adds the weighted tiles to a canvas with rows of canvas_width pixels, which they lie within. By
// one thread: to start another takes up to half as long as a line of 16 tiles of 256 x 256.
void blend(const Isa& isa, const Tiles& tiles, float* canvas, std::size_t canvas_width);

}  // namespace rdx
