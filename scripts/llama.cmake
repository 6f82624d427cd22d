# Read by CMake with llama-cpp-python's own file (scripts/environment): what is not used here is not compiled.
set(LLAVA_BUILD OFF) # the vision library
set(LLAMA_BUILD_COMMON OFF) # what llama.cpp's own programs share; llama-cpp-python switches it on, and installs nothing of it
