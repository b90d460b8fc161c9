#include "epilogue.hpp"

#include <algorithm>
#include <functional>
#include <limits>

#include "parallel.hpp"

namespace rdx {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

float mean_of_largest(const float* map, const std::uint8_t* labels, std::size_t size, std::size_t k,
                      std::vector<float>& values) {
    values.clear();
    for (std::size_t i = 0; i < size; ++i)
        if (labels == nullptr || labels[i] != 0) values.push_back(map[i]);
    const auto kth = values.begin() + static_cast<std::ptrdiff_t>(k);
    std::nth_element(values.begin(), kth - 1, values.end(), std::greater<>());
    double sum = 0.0;
    for (auto value = values.begin(); value != kth; ++value) sum += *value;
    return static_cast<float>(sum / static_cast<double>(k));
}

}  // namespace

MapReader::MapReader(const Isa& isa, const Epilogue& epilogue, std::size_t batch,
                     std::size_t height, std::size_t width, std::size_t threads)
    : isa_(isa),
      epilogue_(epilogue),
      batch_(batch),
      height_(height),
      width_(width),
      seen_(threads, std::vector<Summary>(batch * epilogue.regions, {-infinity, 0, false})) {}

void MapReader::read(std::size_t thread, std::size_t image, std::size_t y, const float* row) {
    const Epilogue& e = epilogue_;
    const std::uint8_t* labels =
        e.labels == nullptr ? nullptr : e.labels + static_cast<std::ptrdiff_t>(y) * e.label_stride;
    Summary* found = seen_[thread].data() + image * e.regions;
    // Once over the whole row: NaN counts also outside all regions.
    isa_.summarize(row, labels, 1, width_, e.thresholds[0], found[0]);
    for (std::size_t r = 1; r < e.regions; ++r) {
        const std::int32_t* extent = e.extents + (y * e.regions + r) * 2;
        const auto first = static_cast<std::size_t>(extent[0]);
        const auto count = static_cast<std::size_t>(extent[1]) - first;
        if (count > 0)
            isa_.summarize(row + first, labels + first, static_cast<std::uint8_t>(r + 1), count,
                           e.thresholds[r], found[r]);
    }
}

void MapReader::finish(const float* maps) const {
    const std::size_t regions = epilogue_.regions, size = height_ * width_;
    std::vector<float> values;
    for (std::size_t image = 0; image < batch_; ++image) {
        bool broken = false;
        for (const std::vector<Summary>& part : seen_) broken |= part[image * regions].nan;
        for (std::size_t i = image * regions; i < (image + 1) * regions; ++i) {
            float maximum = -infinity;
            std::int64_t area = 0;
            for (const std::vector<Summary>& part : seen_) {
                maximum = std::max(maximum, part[i].maximum);
                area += part[i].area;
            }
            epilogue_.maxima[i] = broken ? nan : maximum;
            epilogue_.areas[i] = area;
        }
        if (epilogue_.top_k > 0)
            epilogue_.top_means[image] =
                broken ? nan
                       : mean_of_largest(maps + image * size, epilogue_.labels, size,
                                         epilogue_.top_k, values);
    }
}

void summarize(const Isa& isa, const float* maps, std::array<std::ptrdiff_t, 2> strides,
               std::size_t batch, std::size_t height, std::size_t width, const Epilogue& epilogue,
               std::size_t threads) {
    const std::size_t rows = batch * height;
    threads = std::max<std::size_t>(1, std::min(threads, rows));
    MapReader reader(isa, epilogue, batch, height, width, threads);
    parallel_for(rows, threads, [&](std::size_t t, std::size_t begin, std::size_t end) {
        for (std::size_t row = begin; row < end; ++row) {
            const std::size_t i = row / height, y = row % height;
            reader.read(t, i, y,
                        maps + static_cast<std::ptrdiff_t>(i) * strides[0] +
                            static_cast<std::ptrdiff_t>(y) * strides[1]);
        }
    });
    reader.finish(maps);
}

}  // namespace rdx
