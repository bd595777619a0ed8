"""Which cache keeps what is asked for again? Hit ratios of every policy of ours and of its peers on real traces.

`make hit-ratio` runs it. The Rust package in this folder replays our policies, the optimum and the peers from Rust;
`peers.py` replays those from Python. It compares hit ratios and nothing else: costs are what `make bench` is for.
"""
