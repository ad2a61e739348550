//! Block devices: which are there, what file system and label each holds, partition tables.
