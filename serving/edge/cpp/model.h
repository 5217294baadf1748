// One signature of a `.tflite`, answering a row at a time: what a device does, and all that C++ and Java share.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "litert.h"

namespace edge {

// One row of an input or an output.
struct Tensor {
  std::string name;
  std::string type;        // as NumPy calls it
  std::vector<int> shape;  // without the axis of the rows
  size_t bytes;
};

class Model {
 public:
  // Throws std::runtime_error if the file is no model, lacks the signature or takes more than one row at a time.
  explicit Model(const std::string& path, const std::string& signature = "dense");

  const std::vector<Tensor>& inputs() const { return inputs_; }
  const std::vector<Tensor>& outputs() const { return outputs_; }

  // Reads `inputs()[i].bytes` from each input and writes as much to each output.
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

  // In the order of their making: what is made later is destroyed first.
  Owned<LiteRtEnvironmentT, LiteRtDestroyEnvironment> environment_;
  Owned<LiteRtOptionsT, LiteRtDestroyOptions> options_;
  Owned<LiteRtModelT, LiteRtDestroyModel> model_;
  Owned<LiteRtCompiledModelT, LiteRtDestroyCompiledModel> compiled_;
  size_t signature_;
  std::vector<Tensor> inputs_, outputs_;
  std::vector<Buffer> input_, output_;
};

}  // namespace edge
