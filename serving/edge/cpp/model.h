// Runs one signature of a `.tflite` row by row, as a device does; shared by the C++ and the Java program.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "litert.h"

namespace edge {

// Spec of an input or output tensor.
struct Tensor {
  std::string name;
  std::string type;        // name of the NumPy type
  std::vector<int> shape;  // of one row, without the batch axis
  size_t bytes;            // of one row
};

class Model {
 public:
  // Throws std::runtime_error if the file is not a model, lacks the signature or takes several rows per call.
  explicit Model(const std::string& path, const std::string& signature = "dense");

  const std::vector<Tensor>& inputs() const { return inputs_; }
  const std::vector<Tensor>& outputs() const { return outputs_; }

  // Reads `inputs()[i].bytes` bytes from each input and writes `outputs()[i].bytes` bytes to each output.
  void run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs);

 private:
  template <auto destroy>
  struct Destroy {
    template <typename T>
    void operator()(T* handle) const {
      destroy(handle);
    }
  };
  template <typename T, auto destroy>
  using Owned = std::unique_ptr<T, Destroy<destroy>>;
  using Buffer = Owned<LiteRtTensorBufferT, LiteRtDestroyTensorBuffer>;

  size_t find(const std::string& signature, const std::string& path);
  void add(LiteRtSignature signature, size_t index, bool input);

  // In the order of creation, because members are destroyed in reverse order.
  Owned<LiteRtEnvironmentT, LiteRtDestroyEnvironment> environment_;
  Owned<LiteRtOptionsT, LiteRtDestroyOptions> options_;
  Owned<LiteRtModelT, LiteRtDestroyModel> model_;
  Owned<LiteRtCompiledModelT, LiteRtDestroyCompiledModel> compiled_;
  size_t signature_;
  std::vector<Tensor> inputs_, outputs_;
  std::vector<Buffer> input_, output_;
};

}  // namespace edge
