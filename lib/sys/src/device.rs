//! Device nodes, loop devices, terminals.
