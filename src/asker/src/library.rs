//! A library of this host, loaded by name: nothing of it is needed to build this, and a host may be without.

use std::{
    ffi::{CStr, c_void},
    ptr::NonNull,
};

/// A loaded library. It is never unloaded: this process ends soon.
pub(crate) struct Library(NonNull<c_void>);

impl Library {
    /// Loads a library; `None` where it is not there.
    pub(crate) fn load(name: &CStr) -> Option<Self> {
        // SAFETY: the name is a C string. What the library does when it is loaded is what it does in sshd.
        NonNull::new(unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }).map(Self)
    }

    /// The address of what it calls this.
    pub(crate) fn symbol(&self, name: &CStr) -> Option<NonNull<c_void>> {
        // SAFETY: the handle is one that dlopen has given and nobody has closed.
        NonNull::new(unsafe { libc::dlsym(self.0.as_ptr(), name.as_ptr()) })
    }
}
