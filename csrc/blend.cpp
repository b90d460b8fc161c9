#include "blend.hpp"

#include <algorithm>

#include "parallel.hpp"

namespace rdx {

void blend(const Isa& isa, const Tiles& tiles, float* canvas, std::size_t canvas_width,
           std::size_t threads) {
    const auto top = [&](std::size_t i) { return static_cast<std::size_t>(tiles.places[2 * i]); };
    const auto left = [&](std::size_t i) {
        return static_cast<std::size_t>(tiles.places[2 * i + 1]);
    };
    std::size_t first = top(0), last = top(0);
    for (std::size_t i = 1; i < tiles.count; ++i) {
        first = std::min(first, top(i));
        last = std::max(last, top(i));
    }
    // A thread has rows of the canvas: tiles overlap.
    const auto add = [&](std::size_t, std::size_t begin, std::size_t end) {
        for (std::size_t i = 0; i < tiles.count; ++i) {
            const std::size_t above = std::max(first + begin, top(i));
            const std::size_t below = std::min(first + end, top(i) + tiles.height);
            for (std::size_t y = above; y < below; ++y) {
                const std::size_t row = i * tiles.height + y - top(i);
                isa.add_weighted(tiles.maps + row * tiles.width, tiles.rows[row],
                                 tiles.columns + i * tiles.width, tiles.width,
                                 canvas + y * canvas_width + left(i));
            }
        }
    };
    parallel_for(last - first + tiles.height, threads, add);
}

}  // namespace rdx
