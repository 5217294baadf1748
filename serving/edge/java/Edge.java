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

  public static void main(String[] words) throws IOException {
    if (words.length != 1 && words.length != 3) {
      System.err.println("usage: Edge MODEL [IN OUT]");
      System.exit(2);
    }
    try (var model = new LiteModel(Path.of(words[0]))) {
      if (words.length == 3) answer(model, Path.of(words[1]), Path.of(words[2]));
      else System.out.printf("{\"inputs\": {%s}, \"outputs\": {%s}}%n", told(model.inputs()), told(model.outputs()));
    } catch (IllegalStateException | IllegalArgumentException | IOException error) {
      System.err.println("error: " + error.getMessage());
      System.exit(1);
    }
  }

  private static String told(List<LiteModel.Tensor> tensors) {
    return tensors.stream()
        .map(one -> "\"%s\": {\"dtype\": \"%s\", \"shape\": %s}"
            .formatted(one.name(), one.type(), Arrays.toString(one.shape())))
        .collect(Collectors.joining(", "));
  }

  private static void answer(LiteModel model, Path in, Path out) throws IOException {
    Map<String, byte[]> inputs = new HashMap<>();
    var counts = new HashMap<Integer, String>();
    for (var one : model.inputs()) {
      var data = Files.readAllBytes(in.resolve(one.name() + ".bin"));
      if (data.length % one.bytes() != 0)
        throw new IllegalArgumentException(one.name() + " has " + data.length + " bytes, which is no whole number of rows of "
            + one.bytes());
      inputs.put(one.name(), data);
      counts.put(data.length / one.bytes(), one.name());
    }
    if (counts.size() != 1) throw new IllegalArgumentException("inputs differ in their rows");
    int rows = counts.keySet().iterator().next();
    var outputs = new HashMap<String, ByteArrayOutputStream>();
    for (var one : model.outputs()) outputs.put(one.name(), new ByteArrayOutputStream());
    var times = new long[rows];
    for (int row = 0; row < rows; row++) {
      var given = new HashMap<String, ByteBuffer>();
      for (var one : model.inputs()) {
        given.put(one.name(), LiteModel.buffer(one).put(inputs.get(one.name()), row * one.bytes(), one.bytes()));
      }
      long started = System.nanoTime();
      var answer = model.run(given);
      times[row] = System.nanoTime() - started;
      for (var one : model.outputs()) {
        var data = new byte[one.bytes()];
        answer.get(one.name()).get(data);
        outputs.get(one.name()).writeBytes(data);
      }
    }
    for (var one : model.outputs()) Files.write(out.resolve(one.name() + ".bin"), outputs.get(one.name()).toByteArray());
    Arrays.sort(times);
    double median = rows == 0 ? 0.0 : times[rows / 2] / 1000.0;
    System.out.printf(Locale.ROOT, "{\"rows\": %d, \"latency_us\": %.3f}%n", rows, median);
  }
}
