//! Kernel modules: finit_module(2).
