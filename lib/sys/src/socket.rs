//! Sockets beyond std: packet sockets, peer credentials, descriptors passed along, options.
