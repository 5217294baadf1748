import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/** Runs one signature of a .tflite row by row, through the C++ code that the C++ program uses. */
final class LiteModel implements AutoCloseable {
  static {
    System.loadLibrary("edge");
  }

  /** Name, NumPy type, shape of one row (without the batch axis) and bytes of one row. */
  record Tensor(String name, String type, int[] shape, int bytes) {}

  private final List<Tensor> inputs;
  private final List<Tensor> outputs;
  private long handle;

  /** Throws IllegalStateException if the model cannot be loaded. */
  LiteModel(Path path) {
    handle = open(path.toString());
    inputs = readTensors(true);
    outputs = readTensors(false);
  }

  List<Tensor> inputs() {
    return inputs;
  }

  List<Tensor> outputs() {
    return outputs;
  }

  /** A direct buffer for one row of a tensor, in the machine's byte order. */
  static ByteBuffer buffer(Tensor tensor) {
    return ByteBuffer.allocateDirect(tensor.bytes()).order(ByteOrder.nativeOrder());
  }

  /** Runs one row: takes one direct buffer per input by name and returns new buffers by output name. */
  Map<String, ByteBuffer> run(Map<String, ByteBuffer> row) {
    var in = new ByteBuffer[inputs.size()];
    for (int index = 0; index < in.length; index++) {
      in[index] = row.get(inputs.get(index).name());
      if (in[index] == null) throw new IllegalArgumentException(inputs.get(index).name() + " is missing");
    }
    var out = outputs.stream().map(LiteModel::buffer).toArray(ByteBuffer[]::new);
    run(openHandle(), in, out);
    var answer = new TreeMap<String, ByteBuffer>();
    for (int index = 0; index < out.length; index++) answer.put(outputs.get(index).name(), out[index]);
    return answer;
  }

  @Override
  public void close() {
    if (handle != 0) close(handle);
    handle = 0;
  }

  private long openHandle() {
    if (handle == 0) throw new IllegalStateException("the model is closed");
    return handle;
  }

  private List<Tensor> readTensors(boolean input) {
    var tensors = new ArrayList<Tensor>();
    for (int index = 0; index < count(handle, input); index++) {
      var shape = shape(handle, input, index);
      tensors.add(new Tensor(name(handle, input, index), type(handle, input, index), shape, bytes(handle, input, index)));
    }
    return List.copyOf(tensors);
  }

  private static native long open(String path);

  private static native void close(long handle);

  private static native int count(long handle, boolean input);

  private static native String name(long handle, boolean input, int index);

  private static native String type(long handle, boolean input, int index);

  private static native int[] shape(long handle, boolean input, int index);

  private static native int bytes(long handle, boolean input, int index);

  private static native void run(long handle, ByteBuffer[] inputs, ByteBuffer[] outputs);
}
