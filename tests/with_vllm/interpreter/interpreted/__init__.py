"""A backend of Triton in whose name its interpreter runs kernels in Python (TRITON_INTERPRET=1).

vLLM's V2 model runner asks for Triton with a backend for the CPU, of which none is published.
"""
