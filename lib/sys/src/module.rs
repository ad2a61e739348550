//! Kernel modules: finit_module(2).

use crate::{Context, Result};
use rustix::io::Errno;
use std::ffi::CString;
use std::path::Path;

/// `MODULE_INIT_COMPRESSED_FILE` of include/uapi/linux/module.h.
const COMPRESSED: i32 = 4;

/// Loads the module in `path` with `parameters`. A file name that ends in `.gz`, `.xz` or `.zst` is unpacked
/// by the kernel. That the module is loaded already is success.
pub fn load(path: &Path, parameters: &str) -> Result<()> {
    let file = crate::file::open_to_read(path)?;
    let parameters = CString::new(parameters).map_err(|_| Errno::INVAL).on("load module", path)?;
    let packed = path.extension().is_some_and(|extension| extension != "ko");
    match rustix::system::finit_module(&file, &parameters, if packed { COMPRESSED } else { 0 }) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).on("load module", path),
    }
}

/// The running kernel's release, the name of its folder below `/lib/modules`.
pub fn release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}
