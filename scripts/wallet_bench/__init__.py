"""What shows that the wallet loses nothing and is fast; `scripts/bench_wallet` runs it."""
