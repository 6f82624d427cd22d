"""Where the attention tap finds things: in ggml's tensors, and in its own state."""

# Bytes from a tensor's start, on 64-bit machines. `llama.tensor.check_layout` compares them with the library's.
TYPE, BUFFER, NE, NB, OP, OP_PARAMS, SRC, VIEW_SRC, VIEW_OFFSET, DATA, NAME = (
    0,
    8,
    16,
    48,
    80,
    84,
    152,
    232,
    240,
    248,
    256,
)

F32, F16 = 0, 1  # ggml's types that are read without its help

# Slots of the callback's state, an int64 array.
LAYER_MASK = 0  # address of uint8[n_layer]
N_LAYER = 1
N_WATCHED = 2  # layers in the mask
N_ROWS = 3  # wanted of this batch
TOKENS = 4  # address of int32[n_rows]: the wanted rows' places in the batch; of parts: among their sequence's tokens
SEQUENCES = 5  # address of int32[n_rows]: whose they are, where each sequence has a part of its own
N_BATCH = 6  # tokens of this batch
N_PARTS = 7  # parts of the cache; 0 for one pool
DONE = 8  # address of int32[n_parts]: tokens of this batch that were computed, of each part
FIRST_PART = 9  # of the scores that are held
SCORES = 10  # address of float32[capacity]
SCORES_CAPACITY = 11
SCRATCH = 12  # address of float32[scratch capacity]: one row's weights; before them, a device's query
SCRATCH_CAPACITY = 13
MEAN = 14  # address of float32[mean capacity]; before it, the mask's bias
MEAN_CAPACITY = 15
CELLS = 16  # address of int32[mean capacity]: those that a row attends to
KEYS = 17  # address of float32[keys capacity]: keys of some cells as float32
KEYS_CAPACITY = 18
STAGE = 19  # address of uint8[stage capacity]: what was copied from a device
STAGE_CAPACITY = 20
RESULTS = 21  # address of float64[n_rows, 4]
PENDING = 22  # the layer whose scores are held, or −1
LAYERS_SEEN = 23  # counted anew for each micro-batch
ROWS_SEEN = 24  # each once a layer
FAULT = 25
ALWAYS_COPY = 26  # treat host memory like a device's: for tests
TENSOR_GET = 27  # address of ggml_backend_tensor_get
IS_HOST = 28  # address of ggml_backend_buffer_is_host
FLASH_OP = 29  # number of ggml's operation
TO_FLOAT = 30  # address of int64[n_types]: addresses of what makes float32 of a type; 0 where nothing does
N_TYPES = 31
CAP_SCORES = 32  # addresses of the kernels of these names
SOFTMAX = 33
DESCRIBE = 34  # the kernel `attention`
N_SLOTS = 35

FAULTS = {
    1: "its attention is not in the arrays that were expected",
    2: "its attention needs more room than was set aside",
    3: "its attention weights came without scores",
}
