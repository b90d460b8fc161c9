#include "isa.hpp"
#include "simd.hpp"

namespace rdx::RDX_ISA {

// Reads the pixels that have the label, or all if labels is null.
void summarize(const float* row, const std::uint8_t* labels, std::uint8_t label, std::size_t count,
               float threshold, Summary& summary) {
    const Vec limit = broadcast(threshold), nothing = broadcast(-__builtin_inff());
    const Vec wanted = broadcast(static_cast<float>(label));
    Vec largest = broadcast(summary.maximum);
    std::int64_t area = 0;
    bool nan = false;
    std::size_t x = 0;
    for (; x + Vec::width <= count; x += Vec::width) {
        Vec value = load(row + x);
        nan |= any_nan(value);
        if (labels != nullptr) value = where_equal(load(labels + x), wanted, value, nothing);
        largest = max(largest, value);
        area += count_above(value, limit);
    }
    float last = maximum(largest);
    for (; x < count; ++x) {
        nan |= row[x] != row[x];
        if (labels != nullptr && labels[x] != label) continue;
        if (row[x] > last) last = row[x];
        area += row[x] > threshold;
    }
    summary = {last, summary.area + area, summary.nan || nan};
}

}  // namespace rdx::RDX_ISA
