#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "isa.hpp"

namespace rdx {

// What to read off maps [batch, height, width], and where to put it: maxima and areas
// [batch, regions], and top_means [batch] if top_k > 0. A map that holds NaN anywhere has NaN for
// maxima and top mean. labels [height, width], rows label_stride apart: 0 is not inspected, r + 1
// is region r, whose pixels in row y lie in the columns [extents[y, r, 0], extents[y, r, 1]);
// without labels, null both, everything is the only region. With top_k > 0 labels are contiguous.
struct Epilogue {
    std::size_t regions;
    const float* thresholds;
    const std::uint8_t* labels;
    const std::int32_t* extents;
    std::ptrdiff_t label_stride;
    std::size_t top_k;
    float *maxima, *top_means;
    std::int64_t* areas;
};

// Reads maps row by row, while they are made. Each thread notes what it saw for itself.
class MapReader {
  public:
    MapReader(const Isa& isa, const Epilogue& epilogue, std::size_t batch, std::size_t height,
              std::size_t width, std::size_t threads);

    void read(std::size_t thread, std::size_t image, std::size_t y, const float* row);

    // Puts the results in their places, after all rows. maps are read again if top_k > 0.
    void finish(const float* maps) const;

  private:
    const Isa& isa_;
    const Epilogue epilogue_;
    const std::size_t batch_, height_, width_;
    std::vector<std::vector<Summary>> seen_;  // of each thread, [batch, regions]
};

// The epilogue of maps that already exist, row y of map i at
// maps + i * strides[0] + y * strides[1]. With top_k > 0 they must be contiguous.
void summarize(const Isa& isa, const float* maps, std::array<std::ptrdiff_t, 2> strides,
               std::size_t batch, std::size_t height, std::size_t width, const Epilogue& epilogue,
               std::size_t threads);

}  // namespace rdx
