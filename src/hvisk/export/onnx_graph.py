"""Whisper's encoder and decoder as ONNX graphs, written node by node from the weights, in one of four precisions.

    encoder(weights, config, "q8")   input_features -> last_hidden_state, whatever the number of frames
    decoder(weights, config, "q8")   tokens, encoder output and what is remembered -> logits and what to remember

All arithmetic that is not on quantised integers is float32, and so are all inputs and outputs: float16 is how weights are
stored, since CPUs do not compute in it. Matrices stand as (inputs, outputs). The embedding and the output head are one
stored tensor in every precision: the head multiplies by it, the embedding picks its columns.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "fp16", "q8", "q4"]
Array = NDArray[Any]
Take = Callable[[str], NDArray[np.float32]]  # a tensor's name in Hugging Face's file -> its values

OPSET = 17  # the first with LayerNormalization; every runtime that is in use has it
BLOCK = 32  # weights of one column that share a scale in q4
_IR_VERSION = 8  # of opset 17's time
_EPSILON = 1e-5  # torch's LayerNorm
_ZERO = 128  # unsigned weights: signed ones overflow 16 bits on x86 before VNNI, where two products are added at once


def encoder(take: Take, config: dict[str, Any], precision: Precision) -> Any:
    """Return the encoder as an onnx.ModelProto.

    take: gives each tensor by name. config: Whisper's config.json. Input input_features, float32 (batch_size, mel bands,
    frames) with any even number of frames up to twice max_source_positions: the position table is cut to the input's own
    length. Output last_hidden_state, float32 (batch_size, frames / 2, d_model).
    """
    graph = _Graph(take, precision)
    heads = config["encoder_attention_heads"]
    hidden = "input_features"
    for number, stride in ((1, 1), (2, 2)):
        name = f"model.encoder.conv{number}"
        kernel, bias = graph.kernel(f"{name}.weight"), graph.keep(take(f"{name}.bias"))
        hidden = graph.gelu(graph.op("Conv", hidden, kernel, bias, kernel_shape=[3], pads=[1, 1], strides=[stride]))
    hidden = graph.op("Transpose", hidden, perm=[0, 2, 1])
    length = graph.op("Shape", hidden, start=1, end=2)
    positions = graph.stored(take("model.encoder.embed_positions.weight"))
    hidden = graph.op("Add", hidden, graph.op("Slice", positions, graph.integers(0), length))
    for number in range(config["encoder_layers"]):
        block = f"model.encoder.layers.{number}"
        normal = graph.norm(hidden, f"{block}.self_attn_layer_norm")
        query, key, value = (graph.projected(normal, f"{block}.self_attn", part, heads) for part in "qkv")
        context, _ = graph.attend(query, key, value)
        hidden = graph.op("Add", hidden, graph.merged(context, f"{block}.self_attn"))
        hidden = graph.feed_forward(hidden, block)
    graph.norm(hidden, "model.encoder.layer_norm", output="last_hidden_state")
    width, bands = config["d_model"], config["num_mel_bins"]
    return graph.model(
        [("input_features", np.float32, ["batch_size", bands, "encoder_sequence_length"])],
        [("last_hidden_state", np.float32, ["batch_size", "encoder_sequence_length / 2", width])],
    )


def decoder(
    take: Take, head: NDArray[np.float32] | None, config: dict[str, Any], precision: Precision, attentions: bool
) -> Any:
    """Return the decoder as an onnx.ModelProto, with and without a past in one graph, as Transformers.js feeds it.

    take: gives each tensor by name. head: the output head (tokens, d_model) where it is not the embedding.
    attentions: adds the outputs cross_attentions.N, (batch_size, heads, tokens, positions), for word timestamps.

    Inputs: input_ids int64 (batch_size, tokens); encoder_hidden_states; past_key_values.N.{decoder,encoder}.{key,value}
    (batch_size, heads, past, width of a head); use_cache_branch, bool (1). Without it the past is ignored, whatever its
    length. Outputs: logits (batch_size, tokens, vocabulary) and present.N.*, of which encoder.* is empty where it was
    given: callers keep the first ones, as with Optimum's exports.
    """
    graph = _Graph(take, precision)
    layers, heads, width = config["decoder_layers"], config["decoder_attention_heads"], config["d_model"]
    past = ["batch_size", heads, "past_decoder_sequence_length", width // heads]
    heard = ["batch_size", heads, "encoder_sequence_length_out", width // heads]
    inputs: list[_Port] = [
        ("input_ids", np.int64, ["batch_size", "decoder_sequence_length"]),
        ("encoder_hidden_states", np.float32, ["batch_size", "encoder_sequence_length / 2", width]),
    ]
    table = graph.table(take("model.decoder.embed_tokens.weight"))
    rows = len(take("model.decoder.embed_tokens.weight") if head is None else head)
    outputs: list[_Port] = [("logits", np.float32, ["batch_size", "decoder_sequence_length", rows])]
    before, mask = _places(graph, config)
    end = graph.op("Add", before, graph.op("Shape", "input_ids", start=1, end=2))
    positions = graph.stored(take("model.decoder.embed_positions.weight"))
    hidden = graph.op("Add", graph.embedded(table), graph.op("Slice", positions, before, end))
    empty = graph.keep(np.zeros((0, heads, 1, width // heads), dtype=np.float32))
    for number in range(layers):
        block, own, other = f"model.decoder.layers.{number}", f"{number}.decoder", f"{number}.encoder"
        normal = graph.norm(hidden, f"{block}.self_attn_layer_norm")
        query, key, value = (graph.projected(normal, f"{block}.self_attn", part, heads) for part in "qkv")
        for name, new in (("key", key), ("value", value)):
            old = graph.op("Slice", f"past_key_values.{own}.{name}", graph.integers(0), before, graph.integers(2))
            graph.op("Concat", old, new, axis=2, output=f"present.{own}.{name}")
        context, _ = graph.attend(query, f"present.{own}.key", f"present.{own}.value", mask)
        hidden = graph.op("Add", hidden, graph.merged(context, f"{block}.self_attn"))

        normal = graph.norm(hidden, f"{block}.encoder_attn_layer_norm")
        query = graph.projected(normal, f"{block}.encoder_attn", "q", heads)
        presents = [f"present.{other}.key", f"present.{other}.value"]
        context, seen = _heard(graph, query, block, heads, other, empty, presents)
        if attentions:
            graph.op("Identity", seen, output=f"cross_attentions.{number}")
        hidden = graph.op("Add", hidden, graph.merged(context, f"{block}.encoder_attn"))
        hidden = graph.feed_forward(hidden, block)
        for name in ("key", "value"):
            inputs.append((f"past_key_values.{own}.{name}", np.float32, past))
            outputs.append((f"present.{own}.{name}", np.float32, ["batch_size", heads, "past + new", width // heads]))
        for name in ("key", "value"):
            inputs.append((f"past_key_values.{other}.{name}", np.float32, heard))
            outputs.append((f"present.{other}.{name}", np.float32, ["presents", heads, "positions", width // heads]))
    inputs.append(("use_cache_branch", np.bool_, [1]))
    if attentions:
        shape = ["batch_size", heads, "decoder_sequence_length", "encoder_sequence_length_out"]
        outputs += [(f"cross_attentions.{number}", np.float32, shape) for number in range(layers)]
    normal = graph.norm(hidden, "model.decoder.layer_norm")
    graph.multiplied(normal, table if head is None else graph.table(head), output="logits")
    return graph.model(inputs, outputs)


def _places(graph: "_Graph", config: dict[str, Any]) -> tuple[str, str]:
    """How many tokens there were before, (1), and what hides from each new token those that follow it."""
    used = graph.op("Cast", "use_cache_branch", to=_type(np.int64))
    first = "past_key_values.0.decoder.key"
    before = graph.op("Mul", graph.op("Shape", first, start=2, end=3), used)
    end = graph.op("Add", before, graph.op("Shape", "input_ids", start=1, end=2))
    place = graph.keep(np.arange(config["max_target_positions"], dtype=np.int64))
    keys = graph.op("Slice", place, graph.integers(0), end)
    queries = graph.op("Unsqueeze", graph.op("Slice", place, before, end), graph.integers(1))
    hidden = graph.op("Greater", keys, queries)
    lowest = graph.keep(np.array(np.finfo(np.float32).min))
    return before, graph.op("Where", hidden, lowest, graph.keep(np.array(0, dtype=np.float32)))


def _heard(
    graph: "_Graph", query: str, block: str, heads: int, layer: str, empty: str, presents: Sequence[str]
) -> tuple[str, str]:
    """Attention over the encoder's output: its keys and values are computed at the first step, and given from then on.

    Each branch attends for itself: were the keys and values the If's results, every step would copy all of them.
    """
    names = [graph.name("context"), graph.name("weights"), *presents]

    def given() -> list[str]:
        found = graph.attend(query, f"past_key_values.{layer}.key", f"past_key_values.{layer}.value")
        return [*found, graph.op("Identity", empty), graph.op("Identity", empty)]

    def computed() -> list[str]:
        key, value = (graph.projected("encoder_hidden_states", f"{block}.encoder_attn", part, heads) for part in "kv")
        return [*graph.attend(query, key, value), key, value]

    graph.choose("use_cache_branch", given, computed, names)
    return names[0], names[1]


_Port = tuple[str, Any, Sequence[str | int]]  # a graph's input or output: name, numpy type, shape


class _Graph:
    """The nodes and stored tensors of one graph. A name stands for a value, as it does in ONNX."""

    def __init__(self, take: Take, precision: Precision) -> None:
        self.take, self.precision = take, precision
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.quantised: dict[str, list[str]] = {}  # activations that are in 8 bits already
        self.used = 0

    def name(self, kind: str) -> str:
        self.used += 1
        return f"{kind.lower()}_{self.used}"

    def op(self, kind: str, *inputs: str, output: str = "", domain: str = "", **attributes: Any) -> str:
        """Append a node and return its one output."""
        return self.ops(kind, inputs, [output or self.name(kind)], domain, **attributes)[0]

    def ops(
        self, kind: str, inputs: Sequence[str], outputs: list[str], domain: str = "", **attributes: Any
    ) -> list[str]:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **attributes))
        return outputs

    def keep(self, array: Array) -> str:
        """Store a tensor as it is."""
        from onnx import numpy_helper

        name = self.name("tensor")
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def integers(self, *values: int) -> str:
        return self.keep(np.array(values, dtype=np.int64))

    def stored(self, array: NDArray[np.float32]) -> str:
        """Store a tensor that is no matrix to be multiplied by; runtimes turn it into float32 once, while loading."""
        if self.precision == "fp32":
            return self.keep(array)
        return self.op("Cast", self.keep(array.astype(np.float16)), to=_type(np.float32))

    def kernel(self, name: str) -> str:
        """Store a convolution's weights; the convolution itself is computed in float32, as browsers lack ConvInteger."""
        array = self.take(name)
        if self.precision in ("fp32", "fp16"):
            return self.stored(array)
        integers, scale = _bytes(array, axis=(1, 2))
        return self.op("Mul", self._signed(self.keep(integers)), self.keep(scale))

    def table(self, rows: NDArray[np.float32]) -> list[str]:
        """Store the embedding or the head (tokens, width) once: the names of its columns and, in q8 and q4, scales."""
        if self.precision == "fp32":
            return [self.keep(rows.T)]
        if self.precision == "fp16":
            return [self.keep(rows.T.astype(np.float16))]
        integers, scale = _bytes(rows.T, axis=(0,))
        return [self.keep(integers), self.keep(scale[0])]

    def embedded(self, table: list[str]) -> str:
        """Pick the columns of input_ids: float32 (batch_size, tokens, width)."""
        found = self.op("Transpose", self.op("Gather", table[0], "input_ids", axis=1), perm=[1, 2, 0])
        if self.precision == "fp32":
            return found
        if self.precision == "fp16":
            return self.op("Cast", found, to=_type(np.float32))
        scale = self.op("Unsqueeze", self.op("Gather", table[1], "input_ids"), self.integers(2))
        return self.op("Mul", self._signed(found), scale)

    def multiplied(self, hidden: str, matrix: list[str], output: str = "") -> str:
        """Multiply by what `table` or `matrix` have stored."""
        if self.precision == "fp32":
            return self.op("MatMul", hidden, matrix[0], output=output)
        if self.precision == "fp16":
            return self.op("MatMul", hidden, self.op("Cast", matrix[0], to=_type(np.float32)), output=output)
        if hidden not in self.quantised:
            names = [self.name(part) for part in ("integers", "scale", "zero")]
            self.quantised[hidden] = self.ops("DynamicQuantizeLinear", [hidden], names)
        integers, scale, zero = self.quantised[hidden]
        middle = self.keep(np.array(_ZERO, dtype=np.uint8))
        product = self.op("Cast", self.op("MatMulInteger", integers, matrix[0], zero, middle), to=_type(np.float32))
        return self.op("Mul", product, self.op("Mul", scale, matrix[1]), output=output)

    def linear(self, hidden: str, name: str, scale: float = 1.0) -> str:
        """One of Whisper's linear layers, its result multiplied by `scale`."""
        matrix = self.take(f"{name}.weight").T * np.float32(scale)
        if self.precision == "q4":
            inputs, outputs = matrix.shape
            stored = [self.keep(array) for array in _nibbles(matrix)]
            numbers = {"K": inputs, "N": outputs, "bits": 4, "block_size": BLOCK}
            found = self.op("MatMulNBits", hidden, *stored, domain="com.microsoft", **numbers)
        else:
            found = self.multiplied(hidden, self.table(matrix.T))
        if name.endswith(".k_proj"):  # Whisper's keys have no bias
            return found
        return self.op("Add", found, self.keep(self.take(f"{name}.bias") * np.float32(scale)))

    def projected(self, hidden: str, name: str, part: str, heads: int) -> str:
        """Query, key or value, split into heads: (batch_size, heads, positions, width of a head)."""
        width = len(self.take(f"{name}.q_proj.bias"))
        scale = (width // heads) ** -0.5 if part == "q" else 1.0
        split = self.op(
            "Reshape", self.linear(hidden, f"{name}.{part}_proj", scale), self.integers(0, -1, heads, width // heads)
        )
        return self.op("Transpose", split, perm=[0, 2, 1, 3])

    def attend(self, query: str, key: str, value: str, mask: str = "") -> tuple[str, str]:
        """Attention by scaled queries: the heads' results and their weights."""
        scores = self.op("MatMul", query, self.op("Transpose", key, perm=[0, 1, 3, 2]))
        if mask:
            scores = self.op("Add", scores, mask)
        weights = self.op("Softmax", scores, axis=-1)
        return self.op("MatMul", weights, value), weights

    def merged(self, context: str, name: str) -> str:
        """The heads side by side again, through the output projection."""
        width = len(self.take(f"{name}.out_proj.bias"))
        joined = self.op("Reshape", self.op("Transpose", context, perm=[0, 2, 1, 3]), self.integers(0, -1, width))
        return self.linear(joined, f"{name}.out_proj")

    def feed_forward(self, hidden: str, block: str) -> str:
        inner = self.gelu(self.linear(self.norm(hidden, f"{block}.final_layer_norm"), f"{block}.fc1"))
        return self.op("Add", hidden, self.linear(inner, f"{block}.fc2"))

    def norm(self, hidden: str, name: str, output: str = "") -> str:
        gain, bias = self.keep(self.take(f"{name}.weight")), self.keep(self.take(f"{name}.bias"))
        return self.op("LayerNormalization", hidden, gain, bias, axis=-1, epsilon=_EPSILON, output=output)

    def gelu(self, hidden: str) -> str:
        """x / 2 (1 + erf(x / sqrt 2)), in the form that runtimes recognise and fuse; opset 17 has no Gelu yet."""
        numbers = [self.keep(np.array(value, dtype=np.float32)) for value in (2**0.5, 1.0, 0.5)]
        inner = self.op("Add", self.op("Erf", self.op("Div", hidden, numbers[0])), numbers[1])
        return self.op("Mul", self.op("Mul", hidden, inner), numbers[2])

    def choose(
        self, condition: str, then: Callable[[], list[str]], otherwise: Callable[[], list[str]], to: list[str]
    ) -> None:
        """Append an If: `to` names the results of that branch which runs. Stored tensors belong to the whole graph."""
        branches = {}
        outer, known = self.nodes, self.quantised
        for side, build in (("then_branch", then), ("else_branch", otherwise)):
            self.nodes, self.quantised = [], dict(known)
            results = build()
            branches[side] = self._proto(side, [], [(result, np.float32, None) for result in results])
        self.nodes, self.quantised = outer, known
        self.ops("If", [condition], to, **branches)

    def model(self, inputs: Sequence[_Port], outputs: Sequence[_Port]) -> Any:
        from onnx import helper

        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        graph = self._proto("whisper", inputs, outputs, self.initializers)
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="hvisk")

    def _proto(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any], initializers: Sequence[Any] = ()) -> Any:
        from onnx import helper

        def ports(side: Sequence[Any]) -> list[Any]:
            return [helper.make_tensor_value_info(port, _type(kind), shape) for port, kind, shape in side]

        return helper.make_graph(self.nodes, name, ports(inputs), ports(outputs), initializer=initializers)

    def _signed(self, integers: str) -> str:
        number = self.op("Cast", integers, to=_type(np.float32))
        return self.op("Sub", number, self.keep(np.array(_ZERO, dtype=np.float32)))


def _type(kind: Any) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(kind)))


def _bytes(array: NDArray[np.float32], axis: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Eight bits a weight about _ZERO, and the scales, one for each index outside `axis` (kept with length 1)."""
    scale = np.maximum(np.abs(array).max(axis=axis, keepdims=True), np.finfo(np.float32).tiny) / 127
    return (np.rint(array / scale) + _ZERO).astype(np.uint8), scale.astype(np.float32)


def _nibbles(matrix: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Four bits a weight in MatMulNBits' layout: (outputs, blocks, BLOCK / 2), low half first, and (outputs, blocks).

    The weight farthest from zero in a block becomes -8, the one value that has no counterpart on the other side.
    """
    inputs, outputs = matrix.shape
    blocks = np.pad(matrix.T, ((0, 0), (0, -inputs % BLOCK))).reshape(outputs, -1, BLOCK)
    farthest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1)[..., None], axis=-1)
    scale = np.where(farthest == 0, np.float32(1), farthest / np.float32(-8))
    numbers = np.clip(np.rint(blocks / scale) + 8, 0, 15).astype(np.uint8)
    return numbers[..., 0::2] | numbers[..., 1::2] << 4, scale[..., 0]
