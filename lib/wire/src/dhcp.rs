//! DHCPv4 messages (RFC 2131, RFC 2132).
