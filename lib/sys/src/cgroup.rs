//! Control groups, version 2: cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
