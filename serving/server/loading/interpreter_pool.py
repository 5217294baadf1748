"""A thread-safe pool of LiteRT interpreters for one signature."""

import threading
from collections.abc import Sequence

import numpy as np

# An interpreter keeps its batch size, because a change allocates all its tensors again.
MAX_INTERPRETERS = 16


class InterpreterPool:
    """Interpreters of one signature of a ``.tflite``; threads cannot share an interpreter, so a call takes one out.

    Attributes:
        inputs: Details of the input tensors by name, as LiteRT gives them.
        outputs: Details of the output tensors by name.
        one_row: Whether the model was converted for one row at a time, as browsers need it.
    """

    def __init__(self, content: bytes, signature: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Read the signature.

        Args:
            content: The file.
            signature: Name of the signature.
            inputs: Names of the inputs, in the order of the arrays of :meth:`run`.
            outputs: Names of the outputs, in the order of the result.

        Raises:
            ValueError: if the file cannot be read or has no such signature with these names.
        """
        self._content, self._signature = content, signature
        self._names = list(inputs), list(outputs)
        first = self._create()
        self.inputs, self.outputs = first.inputs, first.outputs
        # LiteRT does not keep the batch axis of strings, so that the other inputs tell.
        numbers = [detail["shape_signature"] for detail in self.inputs.values() if detail["dtype"] is not np.bytes_]
        self.one_row = bool(numbers) and all(len(shape) and shape[0] == 1 for shape in numbers)
        self._lock = threading.Lock()
        self._idle: dict[int, list[BoundInterpreter]] = {1: [first]}  # by number of rows
        self._count = 1

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the signature on a batch of at least one row.

        Raises:
            ValueError: if an input does not fit the model.
            RuntimeError: if the model fails on these inputs.
        """
        if not self.one_row:
            return self._run(arrays, len(arrays[0]))
        parts = [self._run([values[row : row + 1] for values in arrays], 1) for row in range(len(arrays[0]))]
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _run(self, arrays: Sequence[np.ndarray], rows: int) -> list[np.ndarray]:
        interpreter = self._take(rows)
        try:
            return interpreter.run(arrays)
        finally:
            self._give_back(interpreter)

    def _take(self, rows: int) -> "BoundInterpreter":
        with self._lock:
            if rows in self._idle:
                return self._pop(rows)
            if self._count >= MAX_INTERPRETERS and self._idle:
                return self._pop(next(iter(self._idle)))  # of the size that was used least recently
            self._count += 1
        return self._create()

    def _pop(self, rows: int) -> "BoundInterpreter":
        idle = self._idle[rows]
        interpreter = idle.pop()
        if not idle:
            del self._idle[rows]
        return interpreter

    def _give_back(self, interpreter: "BoundInterpreter") -> None:
        with self._lock:
            if self._count > MAX_INTERPRETERS:
                self._count -= 1
            else:
                self._idle[interpreter.rows] = [*self._idle.pop(interpreter.rows, []), interpreter]

    def _create(self) -> "BoundInterpreter":
        return BoundInterpreter(self._content, self._signature, *self._names)


class BoundInterpreter:
    """An interpreter with the tensors of one signature; for one thread at a time.

    Attributes:
        inputs: Details of the input tensors by name.
        outputs: Details of the output tensors by name.
        rows: Number of rows for which tensors are allocated.
    """

    def __init__(self, content: bytes, signature: str, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=content, num_threads=1)
        runner = self._interpreter.get_signature_runner(signature)
        self.inputs, self.outputs = runner.get_input_details(), runner.get_output_details()
        if self.inputs.keys() != set(inputs) or self.outputs.keys() != set(outputs):
            raise ValueError(f"The signature {signature} has other inputs or outputs.")
        self._names = inputs, outputs
        self._indices = (
            [self.inputs[name]["index"] for name in inputs],
            [self.outputs[name]["index"] for name in outputs],
        )
        # With several signatures, the tensors belong to a subgraph that only the runner reaches. A model with a single
        # signature gets no runner, because its tensors cannot be allocated again while another object refers to them.
        self._runner = runner if len(self._interpreter.get_signature_list()) > 1 else None
        self.rows = 1
        self._shapes: list[tuple[int, ...]] = []

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run the signature; the runner would allocate all tensors at each call, which takes longer than a small model."""
        names, (inputs, outputs), interpreter = self._names, self._indices, self._interpreter
        if self._runner:
            self.rows = len(arrays[0])
            results = self._runner(**dict(zip(names[0], arrays, strict=True)))
            return [results[name] for name in names[1]]
        shapes = [values.shape for values in arrays]
        if shapes != self._shapes:
            self._resize(shapes)
        for index, values in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(index, values)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        self._shapes = []  # until all tensors have the new sizes
        for index, shape in zip(self._indices[0], shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes, self.rows = shapes, shapes[0][0]
