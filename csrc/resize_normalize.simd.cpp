#include "isa.hpp"
#include "simd.hpp"

namespace rdx::RDX_ISA {

// line[x] = sum over k of weights[k] * rows[k][x].
void sum_rows(const std::uint8_t* const* rows, const float* weights, std::size_t taps, float* line,
              std::size_t count) {
    constexpr std::size_t n = 4;
    std::size_t x = 0;
    for (; x + n * Vec::width <= count; x += n * Vec::width) {
        Vec sums[n] = {zero(), zero(), zero(), zero()};
        for (std::size_t k = 0; k < taps; ++k) {
            const Vec weight = broadcast(weights[k]);
            for (std::size_t i = 0; i < n; ++i)
                sums[i] = fma(weight, load(rows[k] + x + i * Vec::width), sums[i]);
        }
        for (std::size_t i = 0; i < n; ++i) store(line + x + i * Vec::width, sums[i]);
    }
    for (; x < count; ++x) {
        float sum = 0.0f;
        for (std::size_t k = 0; k < taps; ++k) sum += weights[k] * widen(rows[k][x]);
        line[x] = sum;
    }
}

// Interleaved pixels to three planes: planes[c][j] = sum over k of
// weights[j, k] * line[3 * (first[j] + k) + c]. Reads one float past the last pixel.
void sum_columns_rgb(const float* line, const std::int32_t* first, const float* weights,
                     std::size_t taps, std::size_t count, float* const planes[3]) {
    for (std::size_t j = 0; j < count; ++j) {
        const float* pixel = line + 3 * static_cast<std::ptrdiff_t>(first[j]);
        const float* weight = weights + j * taps;
        // Four lanes a pixel; the last is the next one's red and falls away.
        float sums[4];
#if defined(__AVX2__)
        __m128 even = _mm_setzero_ps(), odd = _mm_setzero_ps();
        std::size_t k = 0;
        for (; k + 2 <= taps; k += 2) {
            even = _mm_fmadd_ps(_mm_set1_ps(weight[k]), _mm_loadu_ps(pixel + 3 * k), even);
            odd = _mm_fmadd_ps(_mm_set1_ps(weight[k + 1]), _mm_loadu_ps(pixel + 3 * k + 3), odd);
        }
        if (k < taps)
            even = _mm_fmadd_ps(_mm_set1_ps(weight[k]), _mm_loadu_ps(pixel + 3 * k), even);
        _mm_storeu_ps(sums, _mm_add_ps(even, odd));
#else
        for (float& sum : sums) sum = 0.0f;
        for (std::size_t k = 0; k < taps; ++k)
            for (std::size_t c = 0; c < 4; ++c) sums[c] += weight[k] * pixel[3 * k + c];
#endif
        for (std::size_t c = 0; c < 3; ++c) planes[c][j] = sums[c];
    }
}

namespace {

template <class T>
void store_scaled(const float* row, std::size_t count, float gain, float offset, T* out,
                  std::ptrdiff_t stride) {
    const Vec g = broadcast(gain), o = broadcast(offset);
    T whole[Vec::width];
    for (std::size_t j = 0; j < count; j += Vec::width) {
        const std::size_t left = count - j;
        if (left >= Vec::width && stride == 1) {
            store(out + j, fma(load(row + j), g, o));
            continue;
        }
        // `row` holds whole vectors, `out` need not.
        store(whole, fma(load(row + j), g, o));
        for (std::size_t i = 0; i < Vec::width && i < left; ++i)
            out[static_cast<std::ptrdiff_t>(j + i) * stride] = whole[i];
    }
}

}  // namespace

void store_row(const float* row, std::size_t count, float gain, float offset, float* out,
               std::ptrdiff_t stride) {
    store_scaled(row, count, gain, offset, out, stride);
}

void store_row(const float* row, std::size_t count, float gain, float offset, Half* out,
               std::ptrdiff_t stride) {
    store_scaled(row, count, gain, offset, out, stride);
}

}  // namespace rdx::RDX_ISA
