"""One model in a process of its own: libllama, continuous batching, the KV cache, the frames."""
