//! `/proc/self/mountinfo` (proc(5)).
