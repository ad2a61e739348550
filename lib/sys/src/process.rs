//! Processes: starting, waiting, killing; reboot(2).
