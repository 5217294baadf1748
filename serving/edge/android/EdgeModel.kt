// The model on Android, by LiteRT's CompiledModel API. Beside the module's other dependencies:
//
//   implementation("com.google.ai.edge.litert:litert:2.3.0")
//
// and `one_row.tflite` of a pushed version's assets.extra in src/main/assets: its tensors have no open axis, so that
// buffers can be made at once. It takes transformed features; what makes them from a purchase or a picture has to run on
// the device too, or the device asks the gateway. Accelerator.GPU in place of CPU needs litert-gpu as well; a model on
// another processor gives other last digits, so compare its answers with samples.npz before you ship it.
package showcase.edge

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.TensorBuffer

private const val SIGNATURE = "dense"

/** Answers one purchase at a time. Not for several threads at once; close it when it is no longer needed. */
class FraudModel(assets: AssetManager, file: String = "one_row.tflite") : AutoCloseable {
  private val model = CompiledModel.create(assets, file, CompiledModel.Options(Accelerator.CPU))
  private val inputs = listOf("codes", "merchants", "numeric", "past").associateWith { model.createInputBuffer(it, SIGNATURE) }
  private val outputs = listOf("score", "decision", "anomaly").associateWith { model.createOutputBuffer(it, SIGNATURE) }

  /** Probability of fraud. The sizes of a row: 4 codes, 9 merchants, 35 numbers and 8 past purchases of 6 numbers. */
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
