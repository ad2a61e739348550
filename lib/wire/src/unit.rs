//! Unit files in the systemd syntax (systemd.syntax(7)).
