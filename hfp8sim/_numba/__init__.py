"""Numba and LLVM: compilation policy and disk cache, vector code, calls by address. Nothing else imports llvmlite."""
