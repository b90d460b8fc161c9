#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "isa.hpp"

namespace rdx {

// Linear operator along one axis: the matrix [out, in], or transposed [in, out] where it is applied
// from the right; row o holds zeros outside [first[o], end[o]).
struct Band {
    const float* matrix;
    std::size_t out, in;
    const std::int32_t *first, *end;
};

// One scale: distances [batch, rows.in, columns.in], its operator along each axis.
struct SmoothScale {
    const float* distances;
    Band rows, columns;
};

// What to read off the maps, and where to put it. maps [batch, height, width] and mask
// [height, width] may be null; top_means is written if top_k > 0. A map that holds NaN anywhere has
// NaN for maximum and top mean.
struct Epilogue {
    const std::uint8_t* mask;
    float threshold;
    std::size_t top_k;
    float *maps, *maxima, *top_means;
    std::int64_t* areas;
};

// sum over scales of rows @ distances @ columns.
void smooth_map(const Isa& isa, const std::vector<SmoothScale>& scales, std::size_t batch,
                const Epilogue& epilogue, std::size_t threads);

}  // namespace rdx
