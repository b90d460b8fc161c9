// Inspects one frame with the standalone file of a bundle:
//
//     inspect_frame part.onnx frame.ppm
//
// prints verdict and score. The exit code is 0 for OK, 1 for REVIEW, 2 for NG, 3 for ERROR (scores
// that are not finite), and 4 if the frame could not be inspected: whatever is not 0 is not OK.

#include <cstdint>
#include <exception>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>

#include <openvino/openvino.hpp>

namespace {

constexpr int not_inspected = 4;
const char* const verdicts[] = {"OK", "REVIEW", "NG", "ERROR"};

// A binary PPM (P6, RGB) or PGM (P5, one channel) of 8 bits, as uint8 [1, H, W, 3] or [1, H, W].
ov::Tensor read_frame(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string kind;
    std::size_t width = 0, height = 0;
    unsigned largest = 0;
    file >> kind >> width >> height >> largest;
    file.get();  // the one white space before the pixels
    if (!file || (kind != "P6" && kind != "P5") || largest != 255)
        throw std::runtime_error(path + ": wanted a binary PPM or PGM of 8 bits without comments");
    ov::Shape shape{1, height, width};
    if (kind == "P6") shape.push_back(3);
    ov::Tensor frame(ov::element::u8, shape);
    const auto bytes = static_cast<std::streamsize>(frame.get_byte_size());
    if (!file.read(reinterpret_cast<char*>(frame.data<std::uint8_t>()), bytes))
        throw std::runtime_error(path + ": the file is cut off");
    return frame;
}

int inspect(const std::string& model, const std::string& path) {
    // A controller compiles once, at its start, and keeps the request for all frames.
    ov::Core core;
    ov::CompiledModel compiled = core.compile_model(
        model, "CPU", ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
        // The limits are for float32, and OpenVINO may choose bfloat16.
        ov::hint::inference_precision(ov::element::f32));
    ov::InferRequest request = compiled.create_infer_request();

    const ov::Tensor frame = read_frame(path);
    if (!compiled.input("frame").get_partial_shape().compatible(frame.get_shape()))
        throw std::runtime_error(path + ": the frame has another size or format than " + model +
                                 " takes");
    request.set_tensor("frame", frame);
    request.infer();

    const float score = request.get_tensor("score").data<float>()[0];
    const std::int32_t verdict = request.get_tensor("verdict").data<std::int32_t>()[0];
    if (verdict < 0 || verdict > 3) throw std::runtime_error("unknown verdict");
    std::cout.precision(9);
    std::cout << verdicts[verdict] << ' ' << score << '\n';
    return verdict;
}

}  // namespace

int main(int count, char** words) {
    if (count != 3) {
        std::cerr << "usage: inspect_frame part.onnx frame.ppm\n";
        return not_inspected;
    }
    try {
        return inspect(words[1], words[2]);
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << '\n';
        return not_inspected;
    }
}
