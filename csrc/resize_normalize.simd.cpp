#include "isa.hpp"
#include "simd.hpp"

namespace rdx::RDX_ISA {

namespace {

// Of row k, from pixel value x on.
template <class Pixel>
const Pixel* at(const std::byte* const* rows, std::size_t k, std::size_t x) {
    return reinterpret_cast<const Pixel*>(rows[k]) + x;
}

template <class Pixel>
void sum_rows_of(const std::byte* const* rows, Levels levels, const float* weights,
                 std::size_t taps, float* line, std::size_t count) {
    constexpr std::size_t n = 8;
    std::size_t x = 0;
    for (; x + n * Vec::width <= count; x += n * Vec::width) {
        Vec sums[n];
        for (Vec& sum : sums) sum = zero();
        for (std::size_t k = 0; k < taps; ++k) {
            const Vec weight = broadcast(weights[k]);
            for (std::size_t i = 0; i < n; ++i)
                sums[i] = fma(weight, load(at<Pixel>(rows, k, x + i * Vec::width), levels), sums[i]);
        }
        for (std::size_t i = 0; i < n; ++i) store(line + x + i * Vec::width, sums[i]);
    }
    for (; x < count; ++x) {
        float sum = 0.0f;
        for (std::size_t k = 0; k < taps; ++k)
            sum += weights[k] * level_of(*at<Pixel>(rows, k, x), levels);
        line[x] = sum;
    }
}

template <class Pixel>
void sum_rows_rgb_of(const std::byte* const* rows, Levels levels, const float* weights,
                     std::size_t taps, float* const planes[3], std::size_t pixels) {
    std::size_t x = 0;
#if defined(__AVX2__)
    for (; x + 16 <= pixels; x += 16) {
        __m256 sums[6];
        for (__m256& sum : sums) sum = _mm256_setzero_ps();
        for (std::size_t k = 0; k < taps; ++k) {
            const __m256 weight = _mm256_broadcast_ss(weights + k);
            for (std::size_t i = 0; i < 6; ++i) {
                const __m256 eight = eight_pixels(at<Pixel>(rows, k, 3 * x + 8 * i), levels);
                sums[i] = _mm256_fmadd_ps(weight, eight, sums[i]);
            }
        }
        for (std::size_t i = 0; i < 2; ++i) {
            const __m256 *s = sums + 3 * i;
            // Pixels 0 to 3 in the low halves, 4 to 7 in the high ones.
            const __m256 rgbr = _mm256_permute2f128_ps(s[0], s[1], 0x30);
            const __m256 gbrg = _mm256_permute2f128_ps(s[0], s[2], 0x21);
            const __m256 brgb = _mm256_permute2f128_ps(s[1], s[2], 0x30);
            const __m256 rg = _mm256_shuffle_ps(gbrg, brgb, _MM_SHUFFLE(2, 1, 3, 2));
            const __m256 gb = _mm256_shuffle_ps(rgbr, gbrg, _MM_SHUFFLE(1, 0, 2, 1));
            const __m256 planar[3] = {_mm256_shuffle_ps(rgbr, rg, _MM_SHUFFLE(2, 0, 3, 0)),
                                      _mm256_shuffle_ps(gb, rg, _MM_SHUFFLE(3, 1, 2, 0)),
                                      _mm256_shuffle_ps(gb, brgb, _MM_SHUFFLE(3, 0, 3, 1))};
            for (std::size_t c = 0; c < 3; ++c) _mm256_storeu_ps(planes[c] + x + 8 * i, planar[c]);
        }
    }
#endif
    for (; x < pixels; ++x)
        for (std::size_t c = 0; c < 3; ++c) {
            float sum = 0.0f;
            for (std::size_t k = 0; k < taps; ++k)
                sum += weights[k] * level_of(*at<Pixel>(rows, k, 3 * x + c), levels);
            planes[c][x] = sum;
        }
}

}  // namespace

// line[x] = sum over k of weights[k] * rows[k][x].
void sum_rows(const std::byte* const* rows, Levels levels, const float* weights, std::size_t taps,
              float* line, std::size_t count) {
    const auto sum = levels.wide ? &sum_rows_of<std::uint16_t> : &sum_rows_of<std::uint8_t>;
    sum(rows, levels, weights, taps, line, count);
}

// The same of interleaved pixels, taken apart: planes[c][x] = sum over k of
// weights[k] * rows[k][3 * x + c].
void sum_rows_rgb(const std::byte* const* rows, Levels levels, const float* weights,
                  std::size_t taps, float* const planes[3], std::size_t pixels) {
    const auto sum = levels.wide ? &sum_rows_rgb_of<std::uint16_t> : &sum_rows_rgb_of<std::uint8_t>;
    sum(rows, levels, weights, taps, planes, pixels);
}

namespace {

#if defined(__AVX2__)
// Eight of sum_columns' outputs. Groups is 0 if their number is known at run time alone.
template <std::size_t Groups>
__m256 eight_columns(const float* line, const std::int32_t* first, const float* weights,
                     std::size_t taps) {
    static_assert(tap_group == 8);
    if (Groups != 0) taps = Groups * tap_group;
    __m256 sums[8];
    for (std::size_t i = 0; i < 8; ++i) {
        const float* pixel = line + first[i];
        const float* weight = weights + i * taps;
        sums[i] = _mm256_mul_ps(_mm256_loadu_ps(weight), _mm256_loadu_ps(pixel));
        for (std::size_t k = 8; k < taps; k += 8)
            sums[i] = _mm256_fmadd_ps(_mm256_loadu_ps(weight + k), _mm256_loadu_ps(pixel + k),
                                      sums[i]);
    }
    for (std::size_t width = 4; width >= 2; width /= 2)
        for (std::size_t i = 0; i < width; ++i)
            sums[i] = _mm256_hadd_ps(sums[2 * i], sums[2 * i + 1]);
    return _mm256_add_ps(_mm256_permute2f128_ps(sums[0], sums[1], 0x20),
                         _mm256_permute2f128_ps(sums[0], sums[1], 0x31));
}
#endif

}  // namespace

// out[j] = sum over k of weights[j, k] * line[first[j] + k], taps in whole groups.
void sum_columns(const float* line, const std::int32_t* first, const float* weights,
                 std::size_t taps, std::size_t count, float* out) {
    std::size_t j = 0;
#if defined(__AVX2__)
    const auto eight = taps == tap_group ? &eight_columns<1> : &eight_columns<0>;
    for (; j + 8 <= count; j += 8)
        _mm256_storeu_ps(out + j, eight(line, first + j, weights + j * taps, taps));
#endif
    for (; j < count; ++j) {
        float sum = 0.0f;
        for (std::size_t k = 0; k < taps; ++k) sum += weights[j * taps + k] * line[first[j] + k];
        out[j] = sum;
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
