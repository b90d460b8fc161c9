#include "cosine_map.hpp"

#include <algorithm>

#include "parallel.hpp"

namespace rdx {
namespace {

// Neighbouring positions of one image: `step` at a time is about 64 Ki elements.
struct Run {
    const CosineScale* scale;
    std::size_t image, row, first, count;
};

bool rows_follow_each_other(const std::ptrdiff_t strides[4], std::size_t width) {
    return strides[2] == static_cast<std::ptrdiff_t>(width) * strides[3];
}

void split(const CosineScale& scale, std::vector<Run>& runs) {
    const bool whole = rows_follow_each_other(scale.teacher_strides, scale.width) &&
                       rows_follow_each_other(scale.student_strides, scale.width);
    const std::size_t rows = whole ? 1 : scale.height;
    const std::size_t length = whole ? scale.height * scale.width : scale.width;
    const std::size_t step = std::max<std::size_t>(64, 65536 / scale.channels / 64 * 64);
    for (std::size_t image = 0; image < scale.batch; ++image)
        for (std::size_t row = 0; row < rows; ++row)
            for (std::size_t first = 0; first < length; first += step)
                runs.push_back({&scale, image, row, first, std::min(step, length - first)});
}

Features features(const char* data, const std::ptrdiff_t strides[4], const Run& run,
                  std::ptrdiff_t bytes) {
    const auto at = [](std::size_t index, std::ptrdiff_t stride) {
        return static_cast<std::ptrdiff_t>(index) * stride;
    };
    return {data + bytes * (at(run.image, strides[0]) + at(run.row, strides[2]) +
                            at(run.first, strides[3])),
            strides[1], strides[3]};
}

}  // namespace

void cosine_maps(const Isa& isa, Element element, const std::vector<CosineScale>& scales,
                 std::size_t threads) {
    const std::ptrdiff_t bytes = element == Element::f32 ? 4 : 2;
    std::vector<Run> runs;
    for (const CosineScale& scale : scales) split(scale, runs);
    parallel_for(runs.size(), threads, [&](std::size_t, std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const Run& run = runs[i];
            const CosineScale& scale = *run.scale;
            const std::size_t done =
                (run.image * scale.height + run.row) * scale.width + run.first;
            isa.cosine_positions(element,
                                 features(scale.teacher, scale.teacher_strides, run, bytes),
                                 features(scale.student, scale.student_strides, run, bytes),
                                 scale.channels, run.count, scale.out + done);
        }
    });
}

}  // namespace rdx
