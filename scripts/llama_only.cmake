# Read by llama.cpp's build right after its project(): the package caches LLAMA_BUILD_COMMON=ON by
# force, and only a normal variable is stronger. Leaves out llama.cpp's command-line helpers, which
# nothing here uses: half of the build.
set(LLAMA_BUILD_COMMON OFF)
