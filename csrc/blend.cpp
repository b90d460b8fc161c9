#include "blend.hpp"

namespace rdx {

void blend(const Isa& isa, const Tiles& tiles, float* canvas, std::size_t canvas_width) {
    for (std::size_t i = 0; i < tiles.count; ++i) {
        const auto top = static_cast<std::size_t>(tiles.places[2 * i]);
        const auto left = static_cast<std::size_t>(tiles.places[2 * i + 1]);
        for (std::size_t y = 0; y < tiles.height; ++y) {
            const std::size_t row = i * tiles.height + y;
            isa.add_weighted(tiles.maps + row * tiles.width, tiles.rows[row],
                             tiles.columns + i * tiles.width, tiles.width,
                             canvas + (top + y) * canvas_width + left);
        }
    }
}

}  // namespace rdx
