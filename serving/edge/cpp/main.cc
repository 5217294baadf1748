// Runs a `.tflite` on rows from files, without Python or TensorFlow.
//
//   edge MODEL            prints input and output tensors as JSON
//   edge MODEL IN OUT     reads IN/<input>.bin, consecutive rows in the machine's byte order, and writes
//                         OUT/<output>.bin; prints the number of rows and the median time per row (microseconds) as JSON
#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>

#include "model.h"

namespace {

void print_tensors(const std::vector<edge::Tensor>& tensors) {
  for (size_t index = 0; index < tensors.size(); ++index) {
    const auto& tensor = tensors[index];
    std::cout << (index ? ", " : "") << "\"" << tensor.name << "\": {\"dtype\": \"" << tensor.type << "\", \"shape\": [";
    for (size_t axis = 0; axis < tensor.shape.size(); ++axis) std::cout << (axis ? ", " : "") << tensor.shape[axis];
    std::cout << "]}";
  }
}

std::vector<char> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

size_t count_rows(const edge::Tensor& tensor, const std::vector<char>& data) {
  if (data.size() % tensor.bytes)
    throw std::runtime_error(tensor.name + " has " + std::to_string(data.size()) + " bytes, which is no whole number of rows of " +
                             std::to_string(tensor.bytes));
  return data.size() / tensor.bytes;
}

void run_rows(edge::Model& model, const std::string& in, const std::string& out) {
  std::vector<std::vector<char>> inputs, outputs;
  for (const auto& input : model.inputs()) inputs.push_back(read_file(in + "/" + input.name + ".bin"));
  const size_t rows = count_rows(model.inputs().at(0), inputs[0]);
  for (size_t index = 0; index < inputs.size(); ++index)
    if (count_rows(model.inputs()[index], inputs[index]) != rows) throw std::runtime_error("inputs differ in their rows");
  for (const auto& output : model.outputs()) outputs.emplace_back(rows * output.bytes);
  std::vector<double> times;
  for (size_t row = 0; row < rows; ++row) {
    std::vector<const void*> from;
    std::vector<void*> to;
    for (size_t index = 0; index < inputs.size(); ++index)
      from.push_back(inputs[index].data() + row * model.inputs()[index].bytes);
    for (size_t index = 0; index < outputs.size(); ++index)
      to.push_back(outputs[index].data() + row * model.outputs()[index].bytes);
    const auto started = std::chrono::steady_clock::now();
    model.run(from, to);
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - started).count());
  }
  for (size_t index = 0; index < outputs.size(); ++index) {
    const std::string path = out + "/" + model.outputs()[index].name + ".bin";
    std::ofstream file(path, std::ios::binary);
    if (!file.write(outputs[index].data(), outputs[index].size()).flush()) throw std::runtime_error(path + " cannot be written");
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  std::cout << "{\"rows\": " << rows << ", \"latency_us\": " << (rows ? times[times.size() / 2] : 0.0) << "}\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 4) {
    std::cerr << "usage: edge MODEL [IN OUT]\n";
    return 2;
  }
  try {
    edge::Model model(argv[1]);
    if (argc == 4) {
      run_rows(model, argv[2], argv[3]);
      return 0;
    }
    std::cout << "{\"inputs\": {";
    print_tensors(model.inputs());
    std::cout << "}, \"outputs\": {";
    print_tensors(model.outputs());
    std::cout << "}}\n";
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
