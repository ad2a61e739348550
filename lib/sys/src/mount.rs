//! Mounts: mount(2), umount(2), pivot_root(2), /proc/self/mountinfo.
