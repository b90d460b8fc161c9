"""The operations before and after the network, one module each, installed as
``rdx_fast.kernels``. Every module holds the operation's contract and its plain NumPy reference; its
namesake in ``gpu`` holds how it runs on a GPU."""
