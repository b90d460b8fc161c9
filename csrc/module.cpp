// rdx_fast._C: the operations of rdx_fast.kernels for CPUs, on NumPy buffers. The Python side
// states and checks the contracts; here only what would read or write out of bounds is refused.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "blend.hpp"
#include "cosine_map.hpp"
#include "fuse_mul.hpp"
#include "isa.hpp"
#include "resize_normalize.hpp"
#include "smooth_map.hpp"

namespace py = pybind11;

namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Counts = py::array_t<std::int64_t, py::array::c_style>;
using Indices = py::array_t<std::int32_t, py::array::c_style>;
template <class Value>
using Strided = py::array_t<Value, 0>;
template <class Pixel>
using Dense = py::array_t<Pixel, py::array::c_style | py::array::forcecast>;
using BandArrays = std::tuple<Floats, Indices, Indices>;

void demand(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

std::size_t length(const py::array& array, py::ssize_t axis) {
    return static_cast<std::size_t>(array.shape(axis));
}

std::ptrdiff_t element_stride(const py::array& array, py::ssize_t axis) {
    demand(array.strides(axis) % array.itemsize() == 0, "strides must be whole elements");
    return array.strides(axis) / array.itemsize();
}

bool dense_rows(const py::array& array) {
    const py::ssize_t last = array.ndim() - 1;
    return array.shape(last) == 1 || array.strides(last) == array.itemsize();
}

bool contiguous(const py::array& array) { return (array.flags() & py::array::c_style) != 0; }

rdx::Element element_named(const std::string& name, const py::array& array) {
    const auto element = name == "float32"    ? rdx::Element::f32
                         : name == "float16"  ? rdx::Element::f16
                         : name == "bfloat16" ? rdx::Element::bf16
                                              : throw std::invalid_argument("unknown element type");
    demand(array.itemsize() == (element == rdx::Element::f32 ? 4 : 2), "element size differs");
    return element;
}

void cosine_maps(const std::vector<py::array>& teacher, const std::vector<py::array>& student,
                 std::vector<Floats> out, const std::string& element_name, std::size_t threads,
                 const std::string& isa_name) {
    demand(!teacher.empty() && teacher.size() == student.size() && teacher.size() == out.size(),
           "teacher, student and out must be as many, and not none");
    const rdx::Isa& isa = rdx::isa_named(isa_name);
    const rdx::Element element = element_named(element_name, teacher[0]);
    std::vector<rdx::CosineScale> scales;
    for (std::size_t s = 0; s < teacher.size(); ++s) {
        const py::array &t = teacher[s], &u = student[s];
        demand(t.ndim() == 4 && u.ndim() == 4 && out[s].ndim() == 3, "wanted [B, C, h, w]");
        demand(t.itemsize() == teacher[0].itemsize() && u.itemsize() == t.itemsize(),
               "element sizes differ");
        demand(std::equal(t.shape(), t.shape() + 4, u.shape()), "teacher and student differ");
        demand(out[s].shape(0) == t.shape(0) && out[s].shape(1) == t.shape(2) &&
                   out[s].shape(2) == t.shape(3) && t.shape(1) > 0,
               "out does not fit");
        rdx::CosineScale scale{length(t, 0), length(t, 1), length(t, 2), length(t, 3),
                               static_cast<const char*>(t.data()),
                               static_cast<const char*>(u.data()), {}, {}, out[s].mutable_data()};
        for (py::ssize_t axis = 0; axis < 4; ++axis) {
            scale.teacher_strides[axis] = element_stride(t, axis);
            scale.student_strides[axis] = element_stride(u, axis);
        }
        scales.push_back(scale);
    }
    py::gil_scoped_release unlocked;
    rdx::cosine_maps(isa, element, scales, threads);
}

// `matrix` is [out, in], or [in, out] where it is applied from the right.
rdx::Band band(const BandArrays& arrays, bool transposed) {
    const auto& [matrix, first, end] = arrays;
    demand(matrix.ndim() == 2 && first.ndim() == 1 && end.ndim() == 1, "an operator is misshapen");
    const std::size_t out = length(matrix, transposed ? 1 : 0);
    const std::size_t in = length(matrix, transposed ? 0 : 1);
    demand(length(first, 0) == out && length(end, 0) == out, "an operator is misshapen");
    for (std::size_t o = 0; o < out; ++o)
        demand(first.data()[o] >= 0 && first.data()[o] < end.data()[o] &&
                   static_cast<std::size_t>(end.data()[o]) <= in,
               "an operator draws on what is not there");
    return {matrix.data(), out, in, first.data(), end.data()};
}

std::vector<rdx::SmoothScale> smooth_scales(const std::vector<Floats>& distances,
                                            const std::vector<BandArrays>& rows,
                                            const std::vector<BandArrays>& columns) {
    demand(!distances.empty() && distances.size() == rows.size() && rows.size() == columns.size(),
           "distances, rows and columns must be as many, and not none");
    std::vector<rdx::SmoothScale> scales;
    for (std::size_t s = 0; s < distances.size(); ++s) {
        scales.push_back({distances[s].data(), band(rows[s], false), band(columns[s], true)});
        demand(distances[s].ndim() == 3 && distances[s].shape(0) == distances[0].shape(0) &&
                   length(distances[s], 1) == scales[s].rows.in &&
                   length(distances[s], 2) == scales[s].columns.in &&
                   scales[s].rows.out == scales[0].rows.out &&
                   scales[s].columns.out == scales[0].columns.out,
               "distances and operators do not fit");
    }
    return scales;
}

// Arrays that an epilogue reads and writes.
struct EpilogueArrays {
    std::optional<Floats> maps;
    std::optional<Strided<std::uint8_t>> labels;
    std::optional<Indices> extents;
    Floats thresholds;
    std::size_t top_k;
    Floats maxima;
    std::optional<Floats> top_means;
    Counts areas;

    rdx::Epilogue checked(std::size_t batch, std::size_t height, std::size_t width) {
        const std::size_t regions = static_cast<std::size_t>(thresholds.size());
        demand(regions >= 1 && regions <= 255, "regions are 1 to 255");
        demand(!maps || (maps->ndim() == 3 && length(*maps, 0) == batch &&
                         length(*maps, 1) == height && length(*maps, 2) == width),
               "maps do not fit");
        demand(labels ? extents.has_value() : !extents && regions == 1,
               "several regions need labels and extents");
        if (labels) check_labels(height, width, regions);
        demand(maxima.ndim() == 2 && length(maxima, 0) == batch && length(maxima, 1) == regions &&
                   areas.ndim() == 2 && length(areas, 0) == batch && length(areas, 1) == regions,
               "results do not fit");
        demand(top_k == 0 || (top_means && top_means->ndim() == 1 &&
                              length(*top_means, 0) == batch && top_k <= inside(height * width)),
               "there is no place for top means, or top_k is larger than the regions");
        return {regions,
                thresholds.data(),
                labels ? labels->data() : nullptr,
                extents ? extents->data() : nullptr,
                labels ? element_stride(*labels, 0) : 0,
                top_k,
                maxima.mutable_data(),
                top_k > 0 ? top_means->mutable_data() : nullptr,
                areas.mutable_data()};
    }

    float* maps_data() { return maps ? maps->mutable_data() : nullptr; }

  private:
    std::size_t inside(std::size_t size) const {
        if (!labels) return size;
        return size - static_cast<std::size_t>(std::count(labels->data(), labels->data() + size, 0));
    }

    void check_labels(std::size_t height, std::size_t width, std::size_t regions) const {
        demand(labels->ndim() == 2 && length(*labels, 0) == height && length(*labels, 1) == width &&
                   extents->ndim() == 3 && length(*extents, 0) == height &&
                   length(*extents, 1) == regions && length(*extents, 2) == 2,
               "labels do not fit");
        demand(dense_rows(*labels) && (top_k == 0 || contiguous(*labels)),
               "pixels of a row of labels lie side by side, with top_k all pixels");
        for (const std::int32_t *x = extents->data(), *end = x + extents->size(); x != end; x += 2)
            demand(x[0] >= 0 && x[0] <= x[1] && static_cast<std::size_t>(x[1]) <= width,
                   "a region lies outside of the map");
    }
};

void smooth_map(const std::vector<Floats>& distances, const std::vector<BandArrays>& rows,
                const std::vector<BandArrays>& columns, EpilogueArrays wanted,
                std::size_t threads, const std::string& isa_name) {
    const rdx::Isa& isa = rdx::isa_named(isa_name);
    const auto scales = smooth_scales(distances, rows, columns);
    const std::size_t batch = length(distances[0], 0);
    const auto epilogue = wanted.checked(batch, scales[0].rows.out, scales[0].columns.out);
    float* maps = wanted.maps_data();
    py::gil_scoped_release unlocked;
    rdx::smooth_map(isa, scales, batch, maps, epilogue, threads);
}

void fuse_mul(const std::vector<Floats>& distances, const std::vector<BandArrays>& rows,
              const std::vector<BandArrays>& columns, const BandArrays& blur_rows,
              const BandArrays& blur_columns, EpilogueArrays wanted, std::size_t threads,
              const std::string& isa_name) {
    const rdx::Isa& isa = rdx::isa_named(isa_name);
    const auto scales = smooth_scales(distances, rows, columns);
    const std::size_t batch = length(distances[0], 0);
    const rdx::Band down = band(blur_rows, false), across = band(blur_columns, true);
    demand(down.in == scales[0].rows.out && across.in == scales[0].columns.out,
           "the Gaussian does not fit");
    const auto epilogue = wanted.checked(batch, down.out, across.out);
    float* maps = wanted.maps_data();
    py::gil_scoped_release unlocked;
    rdx::fuse_mul(isa, scales, down, across, batch, maps, epilogue, threads);
}

void summarize(const Strided<float>& maps, EpilogueArrays wanted, std::size_t threads,
               const std::string& isa_name) {
    const rdx::Isa& isa = rdx::isa_named(isa_name);
    demand(maps.ndim() == 3, "wanted [B, H, W]");
    demand(dense_rows(maps) && (wanted.top_k == 0 || contiguous(maps)),
           "pixels of a row lie side by side, with top_k all pixels");
    const std::size_t batch = length(maps, 0), height = length(maps, 1), width = length(maps, 2);
    const auto epilogue = wanted.checked(batch, height, width);
    const std::array<std::ptrdiff_t, 2> strides{element_stride(maps, 0), element_stride(maps, 1)};
    py::gil_scoped_release unlocked;
    rdx::summarize(isa, maps.data(), strides, batch, height, width, epilogue, threads);
}

void blend(const Floats& maps, const Floats& rows, const Floats& columns, const Counts& places,
           Floats canvas, const std::string& isa_name) {
    const rdx::Isa& isa = rdx::isa_named(isa_name);
    demand(maps.ndim() == 3 && maps.size() > 0 && canvas.ndim() == 2, "wanted [N, h, w], [H, W]");
    const rdx::Tiles tiles{length(maps, 0), length(maps, 1), length(maps, 2), maps.data(),
                           rows.data(),     columns.data(),  places.data()};
    demand(rows.ndim() == 2 && length(rows, 0) == tiles.count &&
               length(rows, 1) == tiles.height && columns.ndim() == 2 &&
               length(columns, 0) == tiles.count && length(columns, 1) == tiles.width &&
               places.ndim() == 2 && length(places, 0) == tiles.count && places.shape(1) == 2,
           "maps, weights and places do not fit");
    for (std::size_t i = 0; i < 2 * tiles.count; ++i)
        demand(tiles.places[i] >= 0 &&
                   tiles.places[i] <= canvas.shape(i % 2) - maps.shape(1 + i % 2),
               "a tile lies outside of the canvas");
    float* sums = canvas.mutable_data();
    const std::size_t width = length(canvas, 1);
    py::gil_scoped_release unlocked;
    rdx::blend(isa, tiles, sums, width);
}

rdx::Taps taps(const Indices& first, const Floats& weights, std::size_t tables, std::size_t size) {
    demand(first.ndim() == 1 && weights.ndim() == 3 && weights.shape(1) == first.shape(0) &&
               length(weights, 0) >= tables && weights.shape(2) > 0,
           "a filter is misshapen");
    for (std::size_t i = 0; i < length(first, 0); ++i)
        demand(first.data()[i] >= 0 &&
                   static_cast<std::size_t>(first.data()[i]) + length(weights, 2) <= size,
               "a filter draws on pixels that are not there");
    return {first.data(), weights.data(), length(first, 0), length(weights, 2)};
}

void resize_normalize(py::array pixels, py::array out, const std::string& format,
                      std::size_t red_row, std::size_t red_column, std::uint16_t black,
                      std::uint16_t span, const std::tuple<Indices, Floats>& rows,
                      const std::tuple<Indices, Floats>& columns, const Floats& gain,
                      const Floats& offset, std::size_t threads, const std::string& isa_name) {
    const rdx::Isa& isa = rdx::isa_named(isa_name);
    const bool wide = pixels.itemsize() == 2;
    demand(pixels.dtype().kind() == 'u' && (wide || pixels.itemsize() == 1),
           "the frame is not uint8 or uint16");
    const auto kind = format == "rgb"     ? rdx::PixelFormat::rgb
                      : format == "bgr"   ? rdx::PixelFormat::bgr
                      : format == "mono"  ? rdx::PixelFormat::mono
                      : format == "bayer" ? rdx::PixelFormat::bayer
                                          : throw std::invalid_argument("unknown pixel format");
    const bool coloured = kind == rdx::PixelFormat::rgb || kind == rdx::PixelFormat::bgr;
    const py::ssize_t channels = coloured ? 3 : 1;
    demand(pixels.ndim() == (coloured ? 3 : 2) && (!coloured || pixels.shape(2) == 3),
           "the frame does not fit its pixel format");
    demand(red_row < 2 && red_column < 2, "parities are 0 or 1");
    const std::size_t tables = kind == rdx::PixelFormat::bayer ? 3 : 1;
    const rdx::Taps down = taps(std::get<0>(rows), std::get<1>(rows), tables, length(pixels, 0));
    const rdx::Taps across =
        taps(std::get<0>(columns), std::get<1>(columns), tables, length(pixels, 1));
    demand(out.ndim() == 3 && out.shape(0) == 3 && length(out, 1) == down.count &&
               length(out, 2) == across.count && down.count > 0 && across.count > 0,
           "out does not fit");
    demand(gain.size() == 3 && offset.size() == 3, "gain and offset hold 3 each");
    const bool half = out.itemsize() == 2;
    const rdx::Input target{out.mutable_data(), element_named(half ? "float16" : "float32", out),
                            {element_stride(out, 0), element_stride(out, 1), element_stride(out, 2)}};
    // A row pitch is taken as it is; pixels that do not lie side by side, or at odd addresses, are
    // copied once.
    const py::ssize_t bytes = pixels.itemsize();
    const auto address = reinterpret_cast<std::uintptr_t>(pixels.data());
    if (pixels.strides(1) != channels * bytes || (coloured && pixels.strides(2) != bytes) ||
        pixels.strides(0) % bytes != 0 || address % static_cast<std::uintptr_t>(bytes) != 0)
        pixels = wide ? py::array(Dense<std::uint16_t>(pixels)) : Dense<std::uint8_t>(pixels);
    const rdx::Frame frame{static_cast<const std::byte*>(pixels.data()),
                           {wide, black, span},
                           static_cast<std::size_t>(channels),
                           pixels.strides(0),
                           kind,
                           red_row,
                           red_column};
    const float* g = gain.data();
    const float* o = offset.data();
    py::gil_scoped_release unlocked;
    rdx::resize_normalize(isa, frame, down, across, g, o, target, threads);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "Compiled CPU kernels of rdx_fast; use them through rdx_fast.kernels.";
    m.def("isas", &rdx::isas);
    py::class_<EpilogueArrays>(m, "Epilogue")
        .def(py::init<std::optional<Floats>, std::optional<Strided<std::uint8_t>>,
                      std::optional<Indices>, Floats, std::size_t, Floats, std::optional<Floats>,
                      Counts>(),
             py::arg("maps"), py::arg("labels"), py::arg("extents"), py::arg("thresholds"),
             py::arg("top_k"), py::arg("maxima"), py::arg("top_means"), py::arg("areas"));
    m.def("cosine_maps", &cosine_maps, py::arg("teacher"), py::arg("student"), py::arg("out"),
          py::arg("element"), py::arg("threads"), py::arg("isa"));
    m.def("smooth_map", &smooth_map, py::arg("distances"), py::arg("rows"), py::arg("columns"),
          py::arg("epilogue"), py::arg("threads"), py::arg("isa"));
    m.def("fuse_mul", &fuse_mul, py::arg("distances"), py::arg("rows"), py::arg("columns"),
          py::arg("blur_rows"), py::arg("blur_columns"), py::arg("epilogue"), py::arg("threads"),
          py::arg("isa"));
    m.def("summarize", &summarize, py::arg("maps"), py::arg("epilogue"), py::arg("threads"),
          py::arg("isa"));
    m.def("blend", &blend, py::arg("maps"), py::arg("rows"), py::arg("columns"),
          py::arg("places"), py::arg("canvas").noconvert(), py::arg("isa"));
    m.def("resize_normalize", &resize_normalize, py::arg("frame"), py::arg("out"),
          py::arg("format"), py::arg("red_row"), py::arg("red_column"), py::arg("black"),
          py::arg("span"), py::arg("rows"), py::arg("columns"), py::arg("gain"), py::arg("offset"),
          py::arg("threads"), py::arg("isa"));
}
