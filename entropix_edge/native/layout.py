"""Where the attention tap finds things: in ggml's tensors, and in its own state."""

# Bytes from a tensor's start, on 64-bit machines. `llama.tensor.check_layout` compares them with the library's.
TYPE, BUFFER, NE, NB, OP_PARAMS, VIEW_SRC, DATA, NAME = 0, 8, 16, 48, 84, 232, 248, 256

# Slots of the callback's state, an int64 array.
LAYER_MASK = 0  # address of uint8[n_layer]
N_LAYER = 1
TOKENS = 2  # address of int32[n_rows]: the wanted rows' places in the batch
N_ROWS = 3
SCORES = 4  # address of float32[capacity]
SCORES_CAPACITY = 5
SCRATCH = 6  # address of float32[scratch capacity]: one row of a device's weights
SCRATCH_CAPACITY = 7
MEAN = 8  # address of float32[mean capacity]
MEAN_CAPACITY = 9
RESULTS = 10  # address of float64[n_rows, 4]
PENDING = 11  # the layer whose scores are held, or −1
LAYERS_SEEN = 12
FAULT = 13
ALWAYS_COPY = 14  # treat host memory like a device's: for tests
TENSOR_GET = 15  # address of ggml_backend_tensor_get
IS_HOST = 16  # address of ggml_backend_buffer_is_host
N_SLOTS = 17

FAULTS = {
    1: "its attention is not in the float32 arrays that were expected",
    2: "its attention needs more room than was set aside",
    3: "its attention weights came without scores",
}
