//! Tar archives: POSIX ustar and pax, GNU long names.
