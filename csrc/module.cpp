// rdx_fast._C: the operations of rdx_fast.kernels for CPUs, on NumPy buffers. The Python side
// states and checks the contracts; here only what would read or write out of bounds is refused.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>

#include "resize_normalize.hpp"

namespace py = pybind11;

namespace {

using Floats = py::array_t<float, py::array::c_style>;

void resize_normalize(const py::array_t<std::uint8_t>& given, Floats& out, const Floats& gain,
                      const Floats& offset) {
    py::array_t<std::uint8_t> frame = given;
    const py::ssize_t channels = frame.ndim() == 3 ? frame.shape(2) : 1;
    if (frame.ndim() < 2 || frame.ndim() > 3 || (channels != 1 && channels != 3))
        throw std::invalid_argument("frame must be uint8 [H, W, 3] or [H, W]");
    if (out.ndim() != 3 || out.shape(0) != 3 || gain.size() != 3 || offset.size() != 3)
        throw std::invalid_argument("out must be float32 [3, h, w]; gain and offset hold 3 each");
    if (frame.size() == 0 || out.size() == 0)
        throw std::invalid_argument("frame and out must not be empty");
    // A row pitch is taken as it is; pixels that do not lie side by side are copied once.
    if (frame.strides(1) != channels || (frame.ndim() == 3 && frame.strides(2) != 1))
        frame = py::array_t<std::uint8_t, py::array::c_style | py::array::forcecast>(frame);
    const rdx::Frame view{frame.data(), static_cast<std::size_t>(frame.shape(0)),
                          static_cast<std::size_t>(frame.shape(1)),
                          static_cast<std::size_t>(channels), frame.strides(0)};
    float* target = out.mutable_data();
    const auto height = static_cast<std::size_t>(out.shape(1));
    const auto width = static_cast<std::size_t>(out.shape(2));
    const float* g = gain.data();
    const float* o = offset.data();
    py::gil_scoped_release unlocked;
    rdx::resize_normalize(view, target, height, width, g, o);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "Compiled CPU kernels of rdx_fast; use them through rdx_fast.kernels.";
    m.def("resize_normalize", &resize_normalize, py::arg("frame"), py::arg("out").noconvert(),
          py::arg("gain"), py::arg("offset"));
}
