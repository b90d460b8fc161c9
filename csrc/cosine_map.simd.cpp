#include "isa.hpp"
#include "simd.hpp"

namespace rdx::RDX_ISA {
namespace {

// The same in kernels/cosine_map.py and kernels/triton_kernels.py.
constexpr float eps = 1e-8f;  // torch.nn.functional.cosine_similarity's

// The square root as an instruction: std::sqrt would set errno.
inline float root(float x) { return __builtin_sqrtf(x); }

// Written so that NaN stays NaN.
inline float at_least_eps(float norm) { return norm < eps ? eps : norm; }

inline float distance(float dot, float tt, float ss) {
    return 1.0f - dot / (at_least_eps(root(tt)) * at_least_eps(root(ss)));
}

// Sums over channels: teacher by student, and each by itself.
struct Sums {
    Vec dot = zero(), tt = zero(), ss = zero();

    void take(Vec t, Vec s) {
        dot = fma(t, s, dot);
        tt = fma(t, t, tt);
        ss = fma(s, s, ss);
    }
};

template <class T>
float one_position(const T* t, std::ptrdiff_t t_stride, const T* s, std::ptrdiff_t s_stride,
                   std::size_t channels, std::size_t from, float dot, float tt, float ss) {
    for (std::size_t c = from; c < channels; ++c) {
        const float x = widen(t[static_cast<std::ptrdiff_t>(c) * t_stride]);
        const float y = widen(s[static_cast<std::ptrdiff_t>(c) * s_stride]);
        dot += x * y;
        tt += x * x;
        ss += y * y;
    }
    return distance(dot, tt, ss);
}

// Channels lie side by side: one position after the other.
template <class T>
float channels_last(const T* t, const T* s, std::size_t channels) {
    Sums even, odd;  // two chains, so that one does not wait for the other
    std::size_t c = 0;
    for (; c + 2 * Vec::width <= channels; c += 2 * Vec::width) {
        even.take(load(t + c), load(s + c));
        odd.take(load(t + c + Vec::width), load(s + c + Vec::width));
    }
    return one_position(t, 1, s, 1, channels, c, sum(add(even.dot, odd.dot)),
                        sum(add(even.tt, odd.tt)), sum(add(even.ss, odd.ss)));
}

// Positions lie side by side: a vector of them at a time, whose sums stay in registers.
template <class T>
void channels_first(const T* t, std::ptrdiff_t t_stride, const T* s, std::ptrdiff_t s_stride,
                    std::size_t channels, float* out) {
    constexpr std::size_t n = 4;
    Sums sums[n];
    for (std::size_t c = 0; c < channels; ++c, t += t_stride, s += s_stride)
        for (std::size_t i = 0; i < n; ++i)
            sums[i].take(load(t + i * Vec::width), load(s + i * Vec::width));
    for (std::size_t i = 0; i < n; ++i) {
        float dot[Vec::width], tt[Vec::width], ss[Vec::width];
        store(dot, sums[i].dot);
        store(tt, sums[i].tt);
        store(ss, sums[i].ss);
        for (std::size_t j = 0; j < Vec::width; ++j)
            out[i * Vec::width + j] = distance(dot[j], tt[j], ss[j]);
    }
}

template <class T>
void positions(const Features& teacher, const Features& student, std::size_t channels,
               std::size_t count, float* out) {
    const T* t = static_cast<const T*>(teacher.data);
    const T* s = static_cast<const T*>(student.data);
    constexpr std::size_t block = 4 * Vec::width;
    std::size_t p = 0;
    if (teacher.position_stride == 1 && student.position_stride == 1)
        for (; p + block <= count; p += block)
            channels_first(t + p, teacher.channel_stride, s + p, student.channel_stride, channels,
                           out + p);
    const bool last = teacher.channel_stride == 1 && student.channel_stride == 1;
    for (; p < count; ++p) {
        const T* tp = t + static_cast<std::ptrdiff_t>(p) * teacher.position_stride;
        const T* sp = s + static_cast<std::ptrdiff_t>(p) * student.position_stride;
        out[p] = last ? channels_last(tp, sp, channels)
                      : one_position(tp, teacher.channel_stride, sp, student.channel_stride,
                                     channels, 0, 0.0f, 0.0f, 0.0f);
    }
}

}  // namespace

void cosine_positions(Element element, Features teacher, Features student, std::size_t channels,
                      std::size_t count, float* out) {
    switch (element) {
        case Element::f32: return positions<float>(teacher, student, channels, count, out);
        case Element::f16: return positions<Half>(teacher, student, channels, count, out);
        case Element::bf16: return positions<Bfloat>(teacher, student, channels, count, out);
    }
}

}  // namespace rdx::RDX_ISA
