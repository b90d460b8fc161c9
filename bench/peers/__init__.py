"""What else a user could take, beside rdx_fast, in one run: ``python -m rdx_fast.bench.peers``."""
