// The model on Android with LiteRT's CompiledModel API. Add to the module's dependencies:
//
//   implementation("com.google.ai.edge.litert:litert:2.3.0")
//
// and copy `one_row.tflite` from a pushed version's assets.extra to src/main/assets. Its tensors have fixed shapes, so
// buffers can be created at once. It takes transformed features: the transformation of a purchase or picture has to run on
// the device, too, or the device sends a request to the gateway. Accelerator.GPU instead of CPU also needs litert-gpu. On
// another processor the last digits of outputs differ, so compare them with samples.npz before a release.
package showcase.edge

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer

private const val SIGNATURE = "dense"

/** Scores one purchase at a time. Not thread-safe; close it after use. */
class FraudModel(assets: AssetManager, file: String = "one_row.tflite") : AutoCloseable {
  private val model = CompiledModel.create(assets, file, CompiledModel.Options(Accelerator.CPU))
  private val inputs = listOf("codes", "merchants", "numeric", "past").associateWith { model.createInputBuffer(it, SIGNATURE) }
  private val outputs = listOf("score", "decision", "anomaly").associateWith { model.createOutputBuffer(it, SIGNATURE) }

  /** Probability of fraud. One row has 4 codes, 9 merchants, 35 numbers and 8 past purchases of 6 numbers each. */
  fun score(codes: IntArray, merchants: IntArray, numeric: FloatArray, past: FloatArray): Float {
    inputs.getValue("codes").writeInt(codes)
    inputs.getValue("merchants").writeInt(merchants)
    inputs.getValue("numeric").writeFloat(numeric)
    inputs.getValue("past").writeFloat(past)
    model.run(inputs, outputs, SIGNATURE)
    return outputs.getValue("score").readFloat().single()
  }

  override fun close() {
    (inputs.values + outputs.values).forEach(TensorBuffer::close)
    model.close()
  }
}
