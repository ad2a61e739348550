//! Capabilities, user switching and no_new_privs: capabilities(7).
