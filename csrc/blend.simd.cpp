#include "isa.hpp"
#include "simd.hpp"

namespace rdx::RDX_ISA {

// sum += row * weight * weights, each operation rounded. fma with zero is a product that no
// compiler contracts with the addition that follows.
void add_weighted(const float* row, float weight, const float* weights, std::size_t count,
                  float* sum) {
    const Vec all = broadcast(weight);
    std::size_t x = 0;
    for (; x + Vec::width <= count; x += Vec::width) {
        const Vec part = fma(fma(load(row + x), all, zero()), load(weights + x), zero());
        store(sum + x, add(load(sum + x), part));
    }
    for (; x < count; ++x) sum[x] += (row[x] * weight + 0.0f) * weights[x] + 0.0f;
}

}  // namespace rdx::RDX_ISA
