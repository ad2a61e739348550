//! Module dependency and alias files (modules.dep, modules.alias, modules.softdep: depmod.d(5)).
