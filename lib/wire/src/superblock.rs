//! File-system superblocks: type, label and UUID of ext4, FAT and squashfs.
