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
const std::pair<std::string, size_t>& element(int type, const std::string& name) {
  static const std::map<int, std::pair<std::string, size_t>> known = {
      {1, {"float32", 4}}, {2, {"int32", 4}}, {3, {"uint8", 1}}, {4, {"int64", 8}}, {6, {"bool", 1}}, {9, {"int8", 1}},
  };
  auto found = known.find(type);
  if (found == known.end()) throw std::runtime_error(name + " has element type " + std::to_string(type));
  return found->second;
}

Tensor described(const std::string& name, const LiteRtRankedTensorType& type) {
  const auto& [kind, size] = element(type.element_type, name);
  Tensor tensor{name, kind, {}, size};
  for (unsigned axis = 1; axis < type.layout.rank; ++axis) {
    if (type.layout.dimensions[axis] < 1) throw std::runtime_error(name + " has an open axis beside the rows'");
    tensor.shape.push_back(type.layout.dimensions[axis]);
    tensor.bytes *= type.layout.dimensions[axis];
  }
  return tensor;
}

// The tensor type for a batch of one row.
LiteRtRankedTensorType one_row(LiteRtTensor tensor, const std::string& name) {
  LiteRtRankedTensorType type;
  check(LiteRtGetRankedTensorType(tensor, &type), "tell the type of " + name);
  if (!type.layout.rank) throw std::runtime_error(name + " has no axis of rows");
  if (type.layout.dimensions[0] < 0) type.layout.dimensions[0] = 1;
  if (type.layout.dimensions[0] != 1) throw std::runtime_error(name + " takes several rows at a time, and not one");
  return type;
}

void copy(LiteRtTensorBuffer buffer, int mode, size_t bytes, const void* from, void* to) {
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
  LiteRtSignature found;
  check(LiteRtGetModelSignature(model, signature_, &found), "find a signature");
  size_t inputs, outputs;
  check(LiteRtGetNumSignatureInputs(found, &inputs), "count inputs");
  check(LiteRtGetNumSignatureOutputs(found, &outputs), "count outputs");
  for (size_t index = 0; index < inputs; ++index) add(found, index, true);
  for (size_t index = 0; index < outputs; ++index) add(found, index, false);
}

size_t Model::find(const std::string& signature, const std::string& path) {
  size_t count;
  check(LiteRtGetNumModelSignatures(model_.get(), &count), "count signatures");
  for (size_t index = 0; index < count; ++index) {
    LiteRtSignature one;
    const char* key;
    check(LiteRtGetModelSignature(model_.get(), index, &one), "find a signature");
    check(LiteRtGetSignatureKey(one, &key), "name a signature");
    if (signature == key) return index;
  }
  throw std::runtime_error(path + " has no signature '" + signature + "'");
}

void Model::add(LiteRtSignature signature, size_t index, bool input) {
  const char* name;
  LiteRtTensor tensor;
  check((input ? LiteRtGetSignatureInputName : LiteRtGetSignatureOutputName)(signature, index, &name), "name a tensor");
  check((input ? LiteRtGetSignatureInputTensor : LiteRtGetSignatureOutputTensor)(signature, name, &tensor), "find a tensor");
  auto type = one_row(tensor, name);
  (input ? inputs_ : outputs_).push_back(described(name, type));
  LiteRtTensorBufferRequirements needs;
  auto ask = input ? LiteRtGetCompiledModelInputBufferRequirements : LiteRtGetCompiledModelOutputBufferRequirements;
  check(ask(compiled_.get(), signature_, index, &needs), "tell what memory a tensor needs");
  LiteRtTensorBuffer buffer;
  check(LiteRtCreateManagedTensorBufferFromRequirements(environment_.get(), &type, needs, &buffer), "make a buffer");
  (input ? input_ : output_).emplace_back(buffer);
}

void Model::run(const std::vector<const void*>& inputs, const std::vector<void*>& outputs) {
  if (inputs.size() != input_.size() || outputs.size() != output_.size())
    throw std::runtime_error("an input or an output is missing");
  std::vector<LiteRtTensorBuffer> in, out;
  for (size_t index = 0; index < input_.size(); ++index) {
    in.push_back(input_[index].get());
    copy(in.back(), kWrite, inputs_[index].bytes, inputs[index], nullptr);
  }
  for (const auto& buffer : output_) out.push_back(buffer.get());
  check(LiteRtRunCompiledModel(compiled_.get(), signature_, in.size(), in.data(), out.size(), out.data()), "run");
  for (size_t index = 0; index < out.size(); ++index)
    copy(out[index], kRead, outputs_[index].bytes, nullptr, outputs[index]);
}

}  // namespace edge
