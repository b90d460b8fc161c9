#pragma once

// Element types of the arrays, and what they are as float. Everything is static, so that each
// instruction set keeps its own copy (see simd.hpp).

#include <cstdint>
#include <cstring>

namespace rdx {

struct Half {
    std::uint16_t bits;
};
struct Bfloat {
    std::uint16_t bits;
};
enum class Element { f32, f16, bf16 };

// Pixels of a frame: uint8 as they are, or uint16 clipped to black and white, counted from black.
struct Levels {
    bool wide;
    std::uint16_t black, span;
};

static inline std::uint32_t bits_of(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(std::uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float widen(float x) { return x; }
static inline float widen(std::uint8_t x) { return static_cast<float>(x); }
static inline float widen(std::uint16_t x) { return static_cast<float>(x); }
static inline float widen(Bfloat x) { return float_of(static_cast<std::uint32_t>(x.bits) << 16); }

static inline float widen(Half x) {
    const std::uint32_t sign = (x.bits & 0x8000u) << 16;
    const std::uint32_t magnitude = (x.bits & 0x7fffu) << 13;
    const bool finite = magnitude < 0x0f800000u;
    // The product moves the exponent's bias from 15 to 127, subnormal numbers included.
    const std::uint32_t value =
        finite ? bits_of(float_of(magnitude) * 0x1p112f) : magnitude | 0x7f800000u;
    return float_of(sign | value);
}

// To the nearest, ties to even.
static inline Half narrow(float x) {
    const std::uint32_t sign = (bits_of(x) >> 16) & 0x8000u;
    std::uint32_t value = bits_of(x) & 0x7fffffffu;
    if (value > 0x7f800000u)
        value = 0x7e00u;
    else if (value >= 0x47800000u)
        value = 0x7c00u;
    else if (value < 0x38800000u)
        // Adding 1/2 leaves the units of float16's subnormal numbers in the lowest bits.
        value = bits_of(float_of(value) + 0.5f) - 0x3f000000u;
    else
        value = (value - 0x38000000u + 0xfffu + ((value >> 13) & 1u)) >> 13;
    return {static_cast<std::uint16_t>(sign | value)};
}

// A pixel of a frame.
static inline float level_of(std::uint8_t x, Levels) { return widen(x); }
static inline float level_of(std::uint16_t x, Levels levels) {
    const float above = widen(x) - widen(levels.black), span = widen(levels.span);
    const float level = above > 0.0f ? above : 0.0f;
    return level < span ? level : span;
}

}  // namespace rdx
