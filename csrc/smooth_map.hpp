#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "epilogue.hpp"
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

// sum over scales of rows @ distances @ columns, and its epilogue. maps [batch, height, width] may be
// null.
void smooth_map(const Isa& isa, const std::vector<SmoothScale>& scales, std::size_t batch,
                float* maps, const Epilogue& epilogue, std::size_t threads);

}  // namespace rdx
