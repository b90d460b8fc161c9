#include "isa.hpp"
#include "simd.hpp"

namespace rdx::RDX_ISA {

void multiply(float* product, const float* factor, std::size_t count) {
    std::size_t i = 0;
    for (; i + Vec::width <= count; i += Vec::width)
        store(product + i, fma(load(product + i), load(factor + i), zero()));
    for (; i < count; ++i) product[i] *= factor[i];
}

}  // namespace rdx::RDX_ISA
