#include "smooth_map.hpp"

#include <algorithm>

#include "parallel.hpp"

namespace rdx {
namespace {

struct Range {
    std::size_t begin, end;
};

// Inputs that outputs [from, to) of an operator draw on.
Range inputs(const Band& band, std::size_t from, std::size_t to) {
    const auto begin = *std::min_element(band.first + from, band.first + to);
    const auto end = *std::max_element(band.end + from, band.end + to);
    return {static_cast<std::size_t>(begin), static_cast<std::size_t>(end)};
}

}  // namespace

void smooth_map(const Isa& isa, const std::vector<SmoothScale>& scales, std::size_t batch,
                float* maps, const Epilogue& epilogue, std::size_t threads) {
    const std::size_t height = scales[0].rows.out, width = scales[0].columns.out;
    const std::size_t stripes = (height + row_tile - 1) / row_tile;
    const std::size_t tile = isa.column_tile(), tiles = (width + tile - 1) / tile;
    threads = std::max<std::size_t>(1, std::min(threads, batch * stripes));

    std::vector<Range> column_ranges;  // [scale, tile]
    std::size_t inner = 0;
    for (const SmoothScale& scale : scales) {
        for (std::size_t x = 0; x < width; x += tile)
            column_ranges.push_back(inputs(scale.columns, x, std::min(x + tile, width)));
        inner += row_tile * scale.columns.in;
    }

    // The largest values are chosen among all of a map, which must lie somewhere until then.
    std::vector<float> unwanted;
    if (maps == nullptr && epilogue.top_k > 0) {
        unwanted.resize(batch * height * width);
        maps = unwanted.data();
    }
    MapReader reader(isa, epilogue, batch, height, width, threads);
    std::vector<std::vector<float>> scratch(
        threads, std::vector<float>(inner + (maps == nullptr ? row_tile * width : 0)));

    parallel_for(batch * stripes, threads, [&](std::size_t t, std::size_t begin, std::size_t end) {
        for (std::size_t item = begin; item < end; ++item) {
            const std::size_t image = item / stripes, y = item % stripes * row_tile;
            const std::size_t rows = std::min(row_tile, height - y);
            float* out = maps == nullptr ? scratch[t].data() + inner
                                         : maps + (image * height + y) * width;
            // Along the height: a few rows of each scale.
            float* tall = scratch[t].data();
            for (const SmoothScale& scale : scales) {
                const std::size_t h = scale.rows.in, w = scale.columns.in;
                const Range range = inputs(scale.rows, y, y + rows);
                isa.band_product(scale.rows.matrix + y * h, h, scale.distances + image * h * w, w,
                                 range.begin, range.end, tall, w, rows, w, false);
                tall += row_tile * w;
            }
            // Along the width: all scales into one tile of the map.
            for (std::size_t i = 0; i < tiles; ++i) {
                const std::size_t x = i * tile, columns = std::min(tile, width - x);
                tall = scratch[t].data();
                for (std::size_t s = 0; s < scales.size(); ++s) {
                    const Range range = column_ranges[s * tiles + i];
                    const std::size_t w = scales[s].columns.in;
                    isa.band_product(tall, w, scales[s].columns.matrix + x, width, range.begin,
                                     range.end, out + x, width, rows, columns, s > 0);
                    tall += row_tile * w;
                }
            }
            for (std::size_t r = 0; r < rows; ++r) reader.read(t, image, y + r, out + r * width);
        }
    });
    reader.finish(maps);
}

}  // namespace rdx
