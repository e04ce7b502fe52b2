"""WASM components as tools: store, compile, capabilities, limits."""
