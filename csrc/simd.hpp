#pragma once

// Vectors of one instruction set. The *.simd.cpp files are compiled once for each, with RDX_ISA as
// the namespace. They use nothing of the standard library that is a template or inline: the linker
// would keep one copy for all, perhaps one that this CPU cannot run.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "elements.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace rdx::RDX_ISA {

#if defined(__AVX2__)

// Eight pixels of a frame.
static inline __m256 eight_pixels(const std::uint8_t* p, Levels) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}
static inline __m256 eight_pixels(const std::uint16_t* p, Levels levels) {
    const __m128i given = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i above = _mm_subs_epu16(given, _mm_set1_epi16(static_cast<short>(levels.black)));
    const __m128i level = _mm_min_epu16(above, _mm_set1_epi16(static_cast<short>(levels.span)));
    return _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(level));
}

#endif

#if defined(__AVX512F__)

struct Vec {
    static constexpr std::size_t width = 16;
    __m512 v;
};
static inline Vec zero() { return {_mm512_setzero_ps()}; }
static inline Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
static inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline Vec load(const Half* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
static inline Vec load(const Bfloat* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
static inline Vec load(const std::uint8_t* p) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))};
}
static inline Vec load(const std::uint16_t* p, Levels levels) {
    const auto all = [](std::uint16_t x) { return _mm256_set1_epi16(static_cast<short>(x)); };
    const __m256i given = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i above = _mm256_subs_epu16(given, all(levels.black));
    const __m256i level = _mm256_min_epu16(above, all(levels.span));
    return {_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(level))};
}
static inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
static inline void store(Half* p, Vec a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
static inline Vec add(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline float sum(Vec a) { return _mm512_reduce_add_ps(a.v); }
static inline float maximum(Vec a) { return _mm512_reduce_max_ps(a.v); }
static inline int count_above(Vec a, Vec b) {
    return __builtin_popcount(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ));
}
static inline bool any_nan(Vec a) { return _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q) != 0; }
// a where x equals y, else c.
static inline Vec where_equal(Vec x, Vec y, Vec a, Vec c) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, y.v, _CMP_EQ_OQ), c.v, a.v)};
}

#elif defined(__AVX2__)

struct Vec {
    static constexpr std::size_t width = 8;
    __m256 v;
};
static inline Vec zero() { return {_mm256_setzero_ps()}; }
static inline Vec broadcast(float x) { return {_mm256_set1_ps(x)}; }
static inline Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
static inline Vec load(const Half* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
static inline Vec load(const Bfloat* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16))};
}
static inline Vec load(const std::uint8_t* p) {
    return {eight_pixels(p, {})};
}
static inline Vec load(const std::uint16_t* p, Levels levels) {
    return {eight_pixels(p, levels)};
}
static inline void store(float* p, Vec a) { _mm256_storeu_ps(p, a.v); }
static inline void store(Half* p, Vec a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
static inline Vec add(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
static inline Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
static inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
static inline float sum(Vec a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
static inline float maximum(Vec a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
static inline int count_above(Vec a, Vec b) {
    return __builtin_popcount(
        static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.v, b.v, _CMP_GT_OQ))));
}
static inline bool any_nan(Vec a) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a.v, a.v, _CMP_UNORD_Q)) != 0;
}
static inline Vec where_equal(Vec x, Vec y, Vec a, Vec c) {
    return {_mm256_blendv_ps(c.v, a.v, _mm256_cmp_ps(x.v, y.v, _CMP_EQ_OQ))};
}

#else

struct Vec {
    static constexpr std::size_t width = 8;
    float v[8];
};
template <class F>
static inline Vec each(F f) {
    Vec r;
    for (std::size_t i = 0; i < Vec::width; ++i) r.v[i] = f(i);
    return r;
}
static inline Vec zero() {
    return each([](std::size_t) { return 0.0f; });
}
static inline Vec broadcast(float x) {
    return each([=](std::size_t) { return x; });
}
template <class T>
static inline Vec load(const T* p) {
    return each([=](std::size_t i) { return widen(p[i]); });
}
static inline Vec load(const std::uint16_t* p, Levels levels) {
    return each([=](std::size_t i) { return level_of(p[i], levels); });
}
static inline void store(float* p, Vec a) { std::memcpy(p, a.v, sizeof a.v); }
static inline void store(Half* p, Vec a) {
    for (std::size_t i = 0; i < Vec::width; ++i) p[i] = narrow(a.v[i]);
}
static inline Vec add(Vec a, Vec b) {
    return each([&](std::size_t i) { return a.v[i] + b.v[i]; });
}
static inline Vec fma(Vec a, Vec b, Vec c) {
    return each([&](std::size_t i) { return a.v[i] * b.v[i] + c.v[i]; });
}
static inline Vec max(Vec a, Vec b) {
    return each([&](std::size_t i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
static inline float sum(Vec a) {
    float s = 0.0f;
    for (float x : a.v) s += x;
    return s;
}
static inline float maximum(Vec a) {
    float m = a.v[0];
    for (float x : a.v) m = x > m ? x : m;
    return m;
}
static inline int count_above(Vec a, Vec b) {
    int n = 0;
    for (std::size_t i = 0; i < Vec::width; ++i) n += a.v[i] > b.v[i];
    return n;
}
static inline bool any_nan(Vec a) {
    bool nan = false;
    for (float x : a.v) nan |= x != x;
    return nan;
}
static inline Vec where_equal(Vec x, Vec y, Vec a, Vec c) {
    return each([&](std::size_t i) { return x.v[i] == y.v[i] ? a.v[i] : c.v[i]; });
}

#endif

static inline Vec load(const std::uint8_t* p, Levels) { return load(p); }

}  // namespace rdx::RDX_ISA
