#include "fuse_mul.hpp"

#include <limits>

namespace rdx {

void fuse_mul(const Isa& isa, const std::vector<SmoothScale>& scales, const Band& blur_rows,
              const Band& blur_columns, std::size_t batch, float* maps, const Epilogue& epilogue,
              std::size_t threads) {
    const std::size_t size = batch * scales[0].rows.out * scales[0].columns.out;
    std::vector<float> product(size), factor(scales.size() > 1 ? size : 0), maxima(batch);
    std::vector<std::int64_t> areas(batch);
    const float never = std::numeric_limits<float>::infinity();
    const Epilogue upsampled{1, &never, nullptr, nullptr, 0, 0, maxima.data(), nullptr, areas.data()};
    for (std::size_t s = 0; s < scales.size(); ++s) {
        smooth_map(isa, {scales[s]}, batch, s == 0 ? product.data() : factor.data(), upsampled,
                   threads);
        if (s > 0) isa.multiply(product.data(), factor.data(), size);
    }
    smooth_map(isa, {{product.data(), blur_rows, blur_columns}}, batch, maps, epilogue,
               threads);
}

}  // namespace rdx
