#include "fuse_mul.hpp"

#include <limits>

namespace rdx {

void fuse_mul(const Isa& isa, const std::vector<SmoothScale>& scales, const Band& blur_rows,
              const Band& blur_columns, std::size_t batch, const Epilogue& epilogue,
              std::size_t threads) {
    const std::size_t size = batch * scales[0].rows.out * scales[0].columns.out;
    std::vector<float> product(size), factor(scales.size() > 1 ? size : 0), maxima(batch);
    std::vector<std::int64_t> areas(batch);
    for (std::size_t s = 0; s < scales.size(); ++s) {
        const Epilogue upsampled{nullptr, std::numeric_limits<float>::infinity(),
                                 0,       s == 0 ? product.data() : factor.data(),
                                 maxima.data(), nullptr, areas.data()};
        smooth_map(isa, {scales[s]}, batch, upsampled, threads);
        if (s > 0) isa.multiply(product.data(), factor.data(), size);
    }
    smooth_map(isa, {{product.data(), blur_rows, blur_columns}}, batch, epilogue, threads);
}

}  // namespace rdx
