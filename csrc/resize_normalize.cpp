#include "resize_normalize.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace rdx {
namespace {

// One axis of the filter: output i is the sum of weights[offset[i] + k] * input[first[i] + k].
struct Taps {
    std::vector<std::size_t> first, count, offset;
    std::vector<float> weights;
};

Taps bilinear_taps(std::size_t in_size, std::size_t out_size) {
    const double scale = static_cast<double>(in_size) / static_cast<double>(out_size);
    const double reach = std::max(scale, 1.0);
    Taps taps;
    for (std::size_t i = 0; i < out_size; ++i) {
        const double centre = (static_cast<double>(i) + 0.5) * scale;
        const auto first = static_cast<std::size_t>(std::max(centre - reach + 0.5, 0.0));
        const auto last = std::min(static_cast<std::size_t>(centre + reach + 0.5), in_size);
        taps.first.push_back(first);
        taps.count.push_back(last - first);
        taps.offset.push_back(taps.weights.size());
        double sum = 0.0;
        std::vector<double> row;
        for (std::size_t x = first; x < last; ++x) {
            const double distance = std::abs(static_cast<double>(x) + 0.5 - centre) / reach;
            row.push_back(std::max(0.0, 1.0 - distance));
            sum += row.back();
        }
        for (double w : row) taps.weights.push_back(static_cast<float>(w / sum));
    }
    return taps;
}

// Whole rows are summed first: contiguous bytes, which compilers turn into vector code.
void sum_rows(const Frame& frame, const Taps& taps, std::size_t i, std::vector<float>& line) {
    const std::size_t n = line.size();
    std::fill(line.begin(), line.end(), 0.0f);
    for (std::size_t k = 0; k < taps.count[i]; ++k) {
        const float w = taps.weights[taps.offset[i] + k];
        const std::uint8_t* row =
            frame.data + static_cast<std::ptrdiff_t>(taps.first[i] + k) * frame.row_pitch;
        float* sum = line.data();
        for (std::size_t x = 0; x < n; ++x) sum[x] += w * static_cast<float>(row[x]);
    }
}

// Where the width stays, each output is one pixel: planes are written one after the other, which
// compilers turn into vector code too.
template <std::size_t Channels>
void keep_columns(const std::vector<float>& line, float* out, std::size_t plane,
                  std::size_t out_width, const float gain[3], const float offset[3]) {
    for (std::size_t c = 0; c < 3; ++c) {
        const float* pixel = line.data() + (Channels == 3 ? c : 0);
        const float g = gain[c], o = offset[c];
        float* target = out + c * plane;
        for (std::size_t j = 0; j < out_width; ++j) target[j] = pixel[j * Channels] * g + o;
    }
}

template <std::size_t Channels>
void sum_columns(const std::vector<float>& line, const Taps& taps, float* out, std::size_t plane,
                 std::size_t out_width, const float gain[3], const float offset[3]) {
    if (line.size() == out_width * Channels)
        return keep_columns<Channels>(line, out, plane, out_width, gain, offset);
    for (std::size_t j = 0; j < out_width; ++j) {
        float sum[Channels] = {};
        const float* pixel = line.data() + taps.first[j] * Channels;
        const float* w = taps.weights.data() + taps.offset[j];
        for (std::size_t k = 0; k < taps.count[j]; ++k)
            for (std::size_t c = 0; c < Channels; ++c) sum[c] += w[k] * pixel[k * Channels + c];
        for (std::size_t c = 0; c < 3; ++c)
            out[c * plane + j] = sum[Channels == 3 ? c : 0] * gain[c] + offset[c];
    }
}

}  // namespace

void resize_normalize(const Frame& frame, float* out, std::size_t out_height,
                      std::size_t out_width, const float gain[3], const float offset[3]) {
    const Taps rows = bilinear_taps(frame.height, out_height);
    const Taps columns = bilinear_taps(frame.width, out_width);
    const std::size_t plane = out_height * out_width;
    std::vector<float> line(frame.width * frame.channels);
    for (std::size_t i = 0; i < out_height; ++i) {
        sum_rows(frame, rows, i, line);
        float* out_row = out + i * out_width;
        if (frame.channels == 3)
            sum_columns<3>(line, columns, out_row, plane, out_width, gain, offset);
        else
            sum_columns<1>(line, columns, out_row, plane, out_width, gain, offset);
    }
}

}  // namespace rdx
