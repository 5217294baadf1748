// Native methods of LiteModel.java: each calls edge::Model and converts its exceptions to Java exceptions.
#include <jni.h>

#include <exception>
#include <stdexcept>

#include "model.h"

namespace {

const edge::Tensor& tensor(jlong handle, jboolean input, jint index) {
  auto* model = reinterpret_cast<edge::Model*>(handle);
  return (input ? model->inputs() : model->outputs()).at(index);
}

// Runs a function; a C++ exception becomes a Java IllegalStateException, and a default value is returned.
template <typename Work>
auto convert_errors(JNIEnv* java, Work work) -> decltype(work()) {
  try {
    return work();
  } catch (const std::exception& error) {
    java->ThrowNew(java->FindClass("java/lang/IllegalStateException"), error.what());
    return decltype(work())();
  }
}

void* address(JNIEnv* java, jobjectArray buffers, jint index, const edge::Tensor& tensor) {
  jobject buffer = java->GetObjectArrayElement(buffers, index);
  if (java->GetDirectBufferCapacity(buffer) != static_cast<jlong>(tensor.bytes))
    throw std::runtime_error(tensor.name + " is no direct buffer of " + std::to_string(tensor.bytes) + " bytes");
  return java->GetDirectBufferAddress(buffer);
}

}  // namespace

extern "C" {

JNIEXPORT jlong JNICALL Java_LiteModel_open(JNIEnv* java, jclass, jstring path) {
  const char* text = java->GetStringUTFChars(path, nullptr);
  const std::string model_path(text);
  java->ReleaseStringUTFChars(path, text);
  return convert_errors(java, [&] { return reinterpret_cast<jlong>(new edge::Model(model_path)); });
}

JNIEXPORT void JNICALL Java_LiteModel_close(JNIEnv*, jclass, jlong handle) {
  delete reinterpret_cast<edge::Model*>(handle);
}

JNIEXPORT jint JNICALL Java_LiteModel_count(JNIEnv*, jclass, jlong handle, jboolean input) {
  auto* model = reinterpret_cast<edge::Model*>(handle);
  return static_cast<jint>((input ? model->inputs() : model->outputs()).size());
}

JNIEXPORT jstring JNICALL Java_LiteModel_name(JNIEnv* java, jclass, jlong handle, jboolean input, jint index) {
  return java->NewStringUTF(tensor(handle, input, index).name.c_str());
}

JNIEXPORT jstring JNICALL Java_LiteModel_type(JNIEnv* java, jclass, jlong handle, jboolean input, jint index) {
  return java->NewStringUTF(tensor(handle, input, index).type.c_str());
}

JNIEXPORT jintArray JNICALL Java_LiteModel_shape(JNIEnv* java, jclass, jlong handle, jboolean input, jint index) {
  const auto& shape = tensor(handle, input, index).shape;
  jintArray dimensions = java->NewIntArray(static_cast<jsize>(shape.size()));
  java->SetIntArrayRegion(dimensions, 0, static_cast<jsize>(shape.size()), shape.data());
  return dimensions;
}

JNIEXPORT jint JNICALL Java_LiteModel_bytes(JNIEnv*, jclass, jlong handle, jboolean input, jint index) {
  return static_cast<jint>(tensor(handle, input, index).bytes);
}

JNIEXPORT void JNICALL Java_LiteModel_run(JNIEnv* java, jclass, jlong handle, jobjectArray inputs, jobjectArray outputs) {
  auto* model = reinterpret_cast<edge::Model*>(handle);
  convert_errors(java, [&] {
    std::vector<const void*> from;
    std::vector<void*> to;
    for (const auto& input : model->inputs()) from.push_back(address(java, inputs, static_cast<jint>(from.size()), input));
    for (const auto& output : model->outputs()) to.push_back(address(java, outputs, static_cast<jint>(to.size()), output));
    model->run(from, to);
    return 0;
  });
}

}  // extern "C"
