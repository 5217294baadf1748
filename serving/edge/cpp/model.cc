#include "model.h"

#include <cstring>
#include <map>
#include <stdexcept>
#include <utility>

namespace edge {
namespace {

void check(LiteRtStatus status, const std::string& what) {
  if (status) throw std::runtime_error("LiteRT could not " + what + " (status " + std::to_string(status) + ")");
}

// Maps LiteRT's number of an element type to the NumPy name and the bytes of one element.
const std::pair<std::string, size_t>& find_element(int type, const std::string& name) {
  static const std::map<int, std::pair<std::string, size_t>> elements = {
      {1, {"float32", 4}}, {2, {"int32", 4}}, {3, {"uint8", 1}}, {4, {"int64", 8}}, {6, {"bool", 1}}, {9, {"int8", 1}},
  };
  auto element = elements.find(type);
  if (element == elements.end()) throw std::runtime_error(name + " has element type " + std::to_string(type));
  return element->second;
}

Tensor describe(const std::string& name, const LiteRtRankedTensorType& type) {
  const auto& [kind, size] = find_element(type.element_type, name);
  Tensor tensor{name, kind, {}, size};
  for (unsigned axis = 1; axis < type.layout.rank; ++axis) {
    if (type.layout.dimensions[axis] < 1) throw std::runtime_error(name + " has an axis of variable size that is not the batch axis");
    tensor.shape.push_back(type.layout.dimensions[axis]);
    tensor.bytes *= type.layout.dimensions[axis];
  }
  return tensor;
}

// The tensor type for a batch of one row.
LiteRtRankedTensorType row_type(LiteRtTensor tensor, const std::string& name) {
  LiteRtRankedTensorType type;
  check(LiteRtGetRankedTensorType(tensor, &type), "get the type of " + name);
  if (!type.layout.rank) throw std::runtime_error(name + " has no axis of rows");
  if (type.layout.dimensions[0] < 0) type.layout.dimensions[0] = 1;
  if (type.layout.dimensions[0] != 1) throw std::runtime_error(name + " takes several rows per call; export a batch of one row");
  return type;
}

void copy_bytes(LiteRtTensorBuffer buffer, int mode, size_t bytes, const void* from, void* to) {
  void* memory;
  check(LiteRtLockTensorBuffer(buffer, &memory, mode), "lock a buffer");
  std::memcpy(mode == kWrite ? memory : to, mode == kWrite ? from : memory, bytes);
  check(LiteRtUnlockTensorBuffer(buffer), "unlock a buffer");
}

}  // namespace

Model::Model(const std::string& path, const std::string& signature) {
  LiteRtEnvironment environment;
  check(LiteRtCreateEnvironment(0, nullptr, &environment), "start");
  environment_.reset(environment);
  LiteRtOptions options;
  check(LiteRtCreateOptions(&options), "make options");
  options_.reset(options);
  check(LiteRtSetOptionsHardwareAccelerators(options, kCpu), "choose the CPU");
  LiteRtModel model;
  check(LiteRtCreateModelFromFile(environment, path.c_str(), &model), "read a model from " + path);
  model_.reset(model);
  signature_ = find(signature, path);
  LiteRtCompiledModel compiled;
  check(LiteRtCreateCompiledModel(environment, model, options, &compiled), "compile " + path);
  compiled_.reset(compiled);
  LiteRtSignature handle;
  check(LiteRtGetModelSignature(model, signature_, &handle), "find a signature");
  size_t inputs, outputs;
  check(LiteRtGetNumSignatureInputs(handle, &inputs), "count inputs");
  check(LiteRtGetNumSignatureOutputs(handle, &outputs), "count outputs");
  for (size_t index = 0; index < inputs; ++index) add(handle, index, true);
  for (size_t index = 0; index < outputs; ++index) add(handle, index, false);
}

size_t Model::find(const std::string& signature, const std::string& path) {
  size_t count;
  check(LiteRtGetNumModelSignatures(model_.get(), &count), "count signatures");
  for (size_t index = 0; index < count; ++index) {
    LiteRtSignature candidate;
    const char* key;
    check(LiteRtGetModelSignature(model_.get(), index, &candidate), "find a signature");
    check(LiteRtGetSignatureKey(candidate, &key), "name a signature");
    if (signature == key) return index;
  }
  throw std::runtime_error(path + " has no signature '" + signature + "'");
}

void Model::add(LiteRtSignature signature, size_t index, bool input) {
  const char* name;
  LiteRtTensor tensor;
  check((input ? LiteRtGetSignatureInputName : LiteRtGetSignatureOutputName)(signature, index, &name), "name a tensor");
  check((input ? LiteRtGetSignatureInputTensor : LiteRtGetSignatureOutputTensor)(signature, name, &tensor), "find a tensor");
  auto type = row_type(tensor, name);
  (input ? inputs_ : outputs_).push_back(describe(name, type));
  LiteRtTensorBufferRequirements requirements;
  auto get = input ? LiteRtGetCompiledModelInputBufferRequirements : LiteRtGetCompiledModelOutputBufferRequirements;
  check(get(compiled_.get(), signature_, index, &requirements), "get what memory a tensor needs");
  LiteRtTensorBuffer buffer;
  check(LiteRtCreateManagedTensorBufferFromRequirements(environment_.get(), &type, requirements, &buffer), "make a buffer");
  (input ? input_ : output_).emplace_back(buffer);
}

void Model::run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs) {
  if (inputs.size() != input_.size() || outputs.size() != output_.size())
    throw std::runtime_error("an input or an output is missing");
  std::vector<LiteRtTensorBuffer> in, out;
  for (size_t index = 0; index < input_.size(); ++index) {
    in.push_back(input_[index].get());
    copy_bytes(in.back(), kWrite, inputs_[index].bytes, inputs[index], nullptr);
  }
  for (const auto& buffer : output_) out.push_back(buffer.get());
  check(LiteRtRunCompiledModel(compiled_.get(), signature_, in.size(), in.data(), out.size(), out.data()), "run");
  for (size_t index = 0; index < out.size(); ++index)
    copy_bytes(out[index], kRead, outputs_[index].bytes, nullptr, outputs[index]);
}

}  // namespace edge
