#pragma once

#include <cstddef>
#include <vector>

#include "isa.hpp"

namespace rdx {

// Teacher and student maps [batch, channels, height, width] of one scale; strides in elements, in
// that order. `out` is [batch, height, width].
struct CosineScale {
    std::size_t batch, channels, height, width;
    const char *teacher, *student;
    std::ptrdiff_t teacher_strides[4], student_strides[4];
    float* out;
};

// 1 - cosine similarity over channels, of all scales.
void cosine_maps(const Isa& isa, Element element, const std::vector<CosineScale>& scales,
                 std::size_t threads);

}  // namespace rdx
