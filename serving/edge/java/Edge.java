import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;

/** The Java version of the C++ program, with the same arguments, files and output. */
final class Edge {
  private Edge() {}

  public static void main(String[] arguments) throws IOException {
    if (arguments.length != 1 && arguments.length != 3) {
      System.err.println("usage: Edge MODEL [IN OUT]");
      System.exit(2);
    }
    try (var model = new LiteModel(Path.of(arguments[0]))) {
      if (arguments.length == 3) runRows(model, Path.of(arguments[1]), Path.of(arguments[2]));
      else System.out.printf("{\"inputs\": {%s}, \"outputs\": {%s}}%n", describe(model.inputs()), describe(model.outputs()));
    } catch (IllegalStateException | IllegalArgumentException | IOException error) {
      System.err.println("error: " + error.getMessage());
      System.exit(1);
    }
  }

  private static String describe(List<LiteModel.Tensor> tensors) {
    return tensors.stream()
        .map(tensor -> "\"%s\": {\"dtype\": \"%s\", \"shape\": %s}"
            .formatted(tensor.name(), tensor.type(), Arrays.toString(tensor.shape())))
        .collect(Collectors.joining(", "));
  }

  private static void runRows(LiteModel model, Path in, Path out) throws IOException {
    Map<String, byte[]> inputs = new HashMap<>();
    var counts = new HashMap<Integer, String>();
    for (var input : model.inputs()) {
      var data = Files.readAllBytes(in.resolve(input.name() + ".bin"));
      if (data.length % input.bytes() != 0)
        throw new IllegalArgumentException(input.name() + " has " + data.length + " bytes, which is no whole number of rows of "
            + input.bytes());
      inputs.put(input.name(), data);
      counts.put(data.length / input.bytes(), input.name());
    }
    if (counts.size() != 1) throw new IllegalArgumentException("inputs differ in their rows");
    int rows = counts.keySet().iterator().next();
    var outputs = new HashMap<String, ByteArrayOutputStream>();
    for (var output : model.outputs()) outputs.put(output.name(), new ByteArrayOutputStream());
    var times = new long[rows];
    for (int row = 0; row < rows; row++) {
      var buffers = new HashMap<String, ByteBuffer>();
      for (var input : model.inputs()) {
        var buffer = LiteModel.buffer(input).put(inputs.get(input.name()), row * input.bytes(), input.bytes());
        buffers.put(input.name(), buffer);
      }
      long started = System.nanoTime();
      var answer = model.run(buffers);
      times[row] = System.nanoTime() - started;
      for (var output : model.outputs()) {
        var data = new byte[output.bytes()];
        answer.get(output.name()).get(data);
        outputs.get(output.name()).writeBytes(data);
      }
    }
    for (var output : model.outputs())
      Files.write(out.resolve(output.name() + ".bin"), outputs.get(output.name()).toByteArray());
    Arrays.sort(times);
    double median = rows == 0 ? 0.0 : times[rows / 2] / 1000.0;
    System.out.printf(Locale.ROOT, "{\"rows\": %d, \"latency_us\": %.3f}%n", rows, median);
  }
}
