#pragma once

#include "smooth_map.hpp"

namespace rdx {

// Gaussian of the product over scales of rows @ distances @ columns, which only upsample here;
// blur_rows and blur_columns are the Gaussian; and its epilogue. maps may be null.
void fuse_mul(const Isa& isa, const std::vector<SmoothScale>& scales, const Band& blur_rows,
              const Band& blur_columns, std::size_t batch, float* maps, const Epilogue& epilogue,
              std::size_t threads);

}  // namespace rdx
